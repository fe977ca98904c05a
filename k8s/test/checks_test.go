package manifests

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// manifests is what was decoded, and the problems found on the way.
type manifests struct {
	deployments []*appsv1.Deployment
	services    []*corev1.Service
	accounts    []*corev1.ServiceAccount
	namespaces  []*corev1.Namespace
	budgets     []*policyv1.PodDisruptionBudget
	autoscalers []*autoscalingv2.HorizontalPodAutoscaler
	policies    []*networkingv1.NetworkPolicy
	configs     map[string]map[string]string
	secrets     map[string][]string // the keys of each

	security policy.Evaluator
	problems []string
}

func (m *manifests) problem(format string, arguments ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, arguments...))
}

// manifestProblems says what is wrong with a build, given the keys of the
// secrets that it relies on and does not bring.
func manifestProblems(text string, secrets map[string][]string) []string {
	m := decode(text, "coatcheck", secrets)
	if !slices.ContainsFunc(m.namespaces, func(n *corev1.Namespace) bool {
		return n.Name == "coatcheck" && n.Labels["pod-security.kubernetes.io/enforce"] == "restricted"
	}) {
		m.problem("no Namespace coatcheck enforces pod-security restricted")
	}
	for _, a := range m.accounts {
		if a.AutomountServiceAccountToken == nil || *a.AutomountServiceAccountToken {
			m.problem("ServiceAccount %s: its token is mounted", a.Name)
		}
	}
	for _, d := range m.deployments {
		m.checkPod(d)
		if pod := d.Spec.Template.Spec; len(pod.InitContainers)+len(pod.EphemeralContainers) > 0 {
			m.problem("%s: no check knows other containers", d.Name)
		}
		m.checkReferences(d)
		for _, c := range d.Spec.Template.Spec.Containers {
			m.checkContainer(d, c)
		}
		m.checkPolicies(d)
	}
	m.checkClients()
	m.checkServices()
	m.checkDefaultPolicy()
	m.checkScale()
	check, ok := m.checkSide("coatcheck")
	if !ok {
		m.problem("there is no Deployment coatcheck")
	}
	login, ok := m.checkSide("coatcheck-login")
	switch {
	case ok && check.all != nil && login.all != nil:
		for _, p := range sharedProblems(check, login) {
			m.problem("%s", p)
		}
		if m.secretAt("coatcheck", check.Redis.Password) == m.secretAt("coatcheck-login", login.Redis.Password) {
			m.problem("both sides have their Redis password from the same Secret, and so the same user")
		}
	case !ok && strings.HasPrefix(check.LoginURL, "/"):
		m.problem("login_url is %s, and no part serves it", check.LoginURL)
	}
	m.checkAPI(check)
	return m.problems
}

// checkAPI looks at the session API, if it is there: a process, a Redis user and a password
// of its own.
func (m *manifests) checkAPI(check settings) {
	api, ok := m.checkSide("coatcheck-api")
	if !ok || check.all == nil || api.all == nil {
		return
	}
	for _, p := range sameProblems(check, api, "the session API") {
		m.problem("%s", p)
	}
	for _, other := range []string{"coatcheck", "coatcheck-login"} {
		if m.secretAt(other, api.Redis.Password) == m.secretAt("coatcheck-api", api.Redis.Password) {
			m.problem("coatcheck-api and %s have their Redis password from the same Secret, and so the same user", other)
		}
	}
}

// checkSide looks at one of the sides, if it is there, and returns what it
// is configured to be.
func (m *manifests) checkSide(name string) (settings, bool) {
	i := slices.IndexFunc(m.deployments, func(d *appsv1.Deployment) bool { return d.Name == name })
	if i < 0 {
		return settings{}, false
	}
	m.checkRollout(m.deployments[i])
	return m.checkProgram(m.deployments[i]), true
}

// decode reads the objects of a namespace, given the keys of secrets that come from elsewhere.
func decode(text, namespace string, secrets map[string][]string) *manifests {
	security, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(err)
	}
	m := &manifests{security: security, configs: make(map[string]map[string]string), secrets: make(map[string][]string)}
	maps.Copy(m.secrets, secrets)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	others := othersNamespaces(text, namespace)
	for document := range strings.SplitSeq(text, "\n---\n") {
		if ofMesh(document) || slices.Contains(others, header(document).Metadata.Namespace) {
			continue
		}
		object, _, err := strict.Decode([]byte(document), nil, nil)
		if err != nil {
			m.problem("%v", err)
			continue
		}
		if o, ok := object.(metav1.Object); ok {
			if _, cluster := object.(*corev1.Namespace); !cluster && o.GetNamespace() != namespace {
				m.problem("%s: it is in the namespace %s", o.GetName(), o.GetNamespace())
			}
		}
		switch o := object.(type) {
		case *appsv1.Deployment:
			m.deployments = append(m.deployments, o)
		case *corev1.Service:
			m.services = append(m.services, o)
		case *corev1.ServiceAccount:
			m.accounts = append(m.accounts, o)
		case *corev1.Namespace:
			m.namespaces = append(m.namespaces, o)
		case *corev1.ConfigMap:
			m.configs[o.Name] = o.Data
		case *corev1.Secret:
			for key := range o.Data {
				m.secrets[o.Name] = append(m.secrets[o.Name], key)
			}
		case *policyv1.PodDisruptionBudget:
			m.budgets = append(m.budgets, o)
		case *autoscalingv2.HorizontalPodAutoscaler:
			m.autoscalers = append(m.autoscalers, o)
		case *networkingv1.NetworkPolicy:
			m.policies = append(m.policies, o)
		default:
			m.problem("no check knows a %T", o)
		}
	}
	return m
}

// A head is what a document is.
type head struct {
	APIVersion, Kind string
	Metadata         struct{ Name, Namespace string }
}

// header reads it, as far as it can.
func header(document string) (h head) {
	_ = yaml.Unmarshal([]byte(document), &h) // the strict decoder says it
	return h
}

// othersNamespaces are the namespaces that a build brings or uses beside one of Coatcheck's:
// for the mesh, for an example application. What lies there is no part of Coatcheck.
func othersNamespaces(text, ours string) []string {
	var names []string
	for document := range strings.SplitSeq(text, "\n---\n") {
		if h := header(document); h.Kind == "Namespace" && h.Metadata.Name != ours {
			names = append(names, h.Metadata.Name)
		}
	}
	return names
}

// ofMesh reports whether a document is about a mesh, a gateway or what guards one. Real
// control planes read it, in k8s/mesh.
func ofMesh(document string) bool {
	group, _, _ := strings.Cut(header(document).APIVersion, "/")
	return strings.HasSuffix(group, ".istio.io") || group == "gateway.networking.k8s.io" || group == "gateway.envoyproxy.io" || group == "admissionregistration.k8s.io"
}

// checkPod holds a pod to the restricted profile, by Kubernetes' own code, and
// to more.
func (m *manifests) checkPod(d *appsv1.Deployment) {
	pod := d.Spec.Template.Spec
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, r := range m.security.EvaluatePod(restricted, &d.Spec.Template.ObjectMeta, &pod) {
		if !r.Allowed {
			m.problem("%s: %s: %s", d.Name, r.ForbiddenReason, r.ForbiddenDetail)
		}
	}
	if !matches(m, d.Name, d.Spec.Selector, d.Spec.Template.Labels) {
		m.problem("Deployment %s selects other pods than its own", d.Name)
	}
	s := pod.SecurityContext
	if s == nil {
		s = new(corev1.PodSecurityContext)
	}
	if s.RunAsUser == nil || *s.RunAsUser == 0 || s.RunAsGroup == nil || *s.RunAsGroup == 0 {
		m.problem("%s: its user or group is root, or the image's", d.Name)
	}
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		m.problem("%s: enableServiceLinks is not false", d.Name)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		m.problem("%s: a token is mounted", d.Name)
	}
	if name := pod.ServiceAccountName; name != "" && !slices.ContainsFunc(m.accounts, func(a *corev1.ServiceAccount) bool { return a.Name == name }) {
		m.problem("%s: there is no ServiceAccount %s", d.Name, name)
	}
}

// checkReferences follows volumes to what they hold.
func (m *manifests) checkReferences(d *appsv1.Deployment) {
	for _, v := range d.Spec.Template.Spec.Volumes {
		switch {
		case v.ConfigMap != nil:
			if _, ok := m.configs[v.ConfigMap.Name]; !ok {
				m.problem("%s: there is no ConfigMap %s", d.Name, v.ConfigMap.Name)
			}
		case v.Secret != nil:
			if _, ok := m.secrets[v.Secret.SecretName]; !ok {
				m.problem("%s: there is no Secret %s", d.Name, v.Secret.SecretName)
			}
			if mode := v.Secret.DefaultMode; mode == nil || *mode != 0o440 {
				m.problem("%s: others than its group may read the volume %s", d.Name, v.Name)
			}
		case v.EmptyDir != nil:
			if v.EmptyDir.SizeLimit == nil {
				m.problem("%s: the volume %s has no limit", d.Name, v.Name)
			}
		default:
			m.problem("%s: the volume %s may be the host's", d.Name, v.Name)
		}
	}
}

func (m *manifests) checkContainer(d *appsv1.Deployment, c corev1.Container) {
	s := c.SecurityContext
	if s == nil {
		s = new(corev1.SecurityContext)
	}
	if s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		m.problem("%s: it keeps capabilities", c.Name)
	}
	if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		m.problem("%s: readOnlyRootFilesystem is not true", c.Name)
	}
	if s.RunAsUser != nil || s.RunAsNonRoot != nil || s.SeccompProfile != nil {
		m.problem("%s: it overrides what the pod says of its user or seccomp", c.Name)
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() {
		m.problem("%s: it has no memory limit or request", c.Name)
	}
	if !c.Resources.Limits.Cpu().IsZero() {
		m.problem("%s: a CPU limit would throttle it", c.Name)
	}
	if c.Resources.Requests.Cpu().IsZero() {
		m.problem("%s: it has no CPU request", c.Name)
	}
	if !pinned(c.Image) {
		m.problem("%s: the image %s has no version", c.Name, c.Image)
	}
	if len(c.EnvFrom) > 0 {
		m.problem("%s: a secret or foreign variables could stand in envFrom", c.Name)
	}
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil || secretName(e.Name) {
			m.problem("%s: the variable %s holds a secret", c.Name, e.Name)
		}
	}
	for _, v := range c.VolumeMounts {
		if !slices.ContainsFunc(d.Spec.Template.Spec.Volumes, func(o corev1.Volume) bool { return o.Name == v.Name }) {
			m.problem("%s: there is no volume %s", c.Name, v.Name)
		}
		if v.SubPath != "" || v.SubPathExpr != "" {
			m.problem("%s: the volume %s is mounted by subPath and never changes", c.Name, v.Name)
		}
	}
	for name, probe := range map[string]*corev1.Probe{"startupProbe": c.StartupProbe, "readinessProbe": c.ReadinessProbe, "livenessProbe": c.LivenessProbe} {
		switch {
		case probe == nil:
			if name != "startupProbe" || strings.HasPrefix(d.Name, "coatcheck") {
				m.problem("%s: there is no %s", c.Name, name)
			}
		case probe.GRPC != nil:
			m.checkPort(d, c.Name+" "+name, intstr.FromInt32(probe.GRPC.Port))
		case probe.HTTPGet != nil:
			m.checkPort(d, c.Name+" "+name, probe.HTTPGet.Port)
		case probe.TCPSocket != nil:
			m.checkPort(d, c.Name+" "+name, probe.TCPSocket.Port)
		default:
			m.problem("%s: no check knows this %s", c.Name, name)
		}
	}
}

// checkPort says if a pod of d has no such port.
func (m *manifests) checkPort(d *appsv1.Deployment, who string, port intstr.IntOrString) {
	if number(d, port) == 0 {
		m.problem("%s: Deployment %s has no port %s", who, d.Name, port.String())
	}
}

// What Istio gives to each pod of an ambient mesh: ztunnel's port, and the address from
// which it sends the kubelet's probes, which no pod can have.
const (
	ztunnelPort    = 15008
	ambientProbing = "169.254.7.127/32"
)

// number is the port's, 0 if the pods of d have none such.
func number(d *appsv1.Deployment, port intstr.IntOrString) int32 {
	if port.Type == intstr.Int && port.IntVal == ztunnelPort && d.Spec.Template.Labels["istio.io/dataplane-mode"] == "ambient" {
		return ztunnelPort
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, p := range c.Ports {
			if port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal {
				return p.ContainerPort
			}
		}
	}
	return 0
}

// checkServices finds the pods behind each Service.
func (m *manifests) checkServices() {
	for _, s := range m.services {
		found := false
		for _, d := range m.deployments {
			if len(s.Spec.Selector) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
				continue
			}
			found = true
			for _, p := range s.Spec.Ports {
				m.checkPort(d, "Service "+s.Name, p.TargetPort)
			}
		}
		if !found {
			m.problem("Service %s selects no pods", s.Name)
		}
	}
}

// checkDefaultPolicy wants everything closed that no other policy opens.
func (m *manifests) checkDefaultPolicy() {
	if !slices.ContainsFunc(m.policies, func(p *networkingv1.NetworkPolicy) bool {
		return p.Spec.PodSelector.Size() == 0 && bothWays(p) && len(p.Spec.Ingress)+len(p.Spec.Egress) == 0
	}) {
		m.problem("no NetworkPolicy closes both ways by default")
	}
	for _, p := range m.policies {
		if p.Spec.PodSelector.Size() != 0 && !slices.ContainsFunc(m.deployments, func(d *appsv1.Deployment) bool {
			return matches(m, p.Name, &p.Spec.PodSelector, d.Spec.Template.Labels)
		}) {
			m.problem("NetworkPolicy %s selects no pods", p.Name)
		}
	}
}

func bothWays(p *networkingv1.NetworkPolicy) bool {
	return slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) && slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

// policy is the one that opens something for a Deployment's pods.
func (m *manifests) policy(d *appsv1.Deployment) *networkingv1.NetworkPolicy {
	for _, p := range m.policies {
		if p.Spec.PodSelector.Size() != 0 && matches(m, p.Name, &p.Spec.PodSelector, d.Spec.Template.Labels) && bothWays(p) {
			return p
		}
	}
	return nil
}

// checkPolicies wants named peers and existing ports in what is opened.
func (m *manifests) checkPolicies(d *appsv1.Deployment) {
	p := m.policy(d)
	if p == nil {
		m.problem("no NetworkPolicy is about Deployment %s", d.Name)
		return
	}
	peers := func(way string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
		if len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
			return p.IPBlock == nil && (p.PodSelector == nil || p.PodSelector.Size() == 0) && (p.NamespaceSelector == nil || p.NamespaceSelector.Size() == 0)
		}) {
			m.problem("NetworkPolicy %s: %s is open to every client", p.Name, way)
		}
		if len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port == nil || p.Protocol == nil }) {
			m.problem("NetworkPolicy %s: %s is open on every port", p.Name, way)
		}
	}
	for _, rule := range p.Spec.Ingress {
		peers("ingress", rule.From, rule.Ports)
		for _, port := range rule.Ports {
			if port.Port != nil {
				m.checkPort(d, "NetworkPolicy "+p.Name, *port.Port)
			}
		}
	}
	for _, rule := range p.Spec.Egress {
		peers("egress", rule.To, rule.Ports)
	}
}

// checkClients asks the policies who gets in: what a namespace may depends on its
// labels, of which checks and login have one each. A namespace of sidecars needs
// the checks, and must not reach the pages, which believe their clients' headers.
func (m *manifests) checkClients() {
	for _, client := range []struct {
		name          string
		labels        map[string]string
		checks, login bool
	}{
		{"the namespace itself", nil, false, false},
		{"a namespace without labels", map[string]string{}, false, false},
		{"a namespace that may check", map[string]string{"coatcheck-checks": "true"}, true, false},
		{"a namespace with login's label", map[string]string{"coatcheck-login": "true"}, false, true},
		{"a namespace with both labels", map[string]string{"coatcheck-checks": "true", "coatcheck-login": "true"}, true, true},
		{"a namespace with services", map[string]string{"coatcheck-api": "true"}, false, false},
		{"the monitoring", map[string]string{corev1.LabelMetadataName: "monitoring"}, false, false},
	} {
		for _, d := range m.deployments {
			port, may, what := "grpc", client.checks, "check"
			if d.Name == "coatcheck-login" {
				port, may, what = "http", client.login, "login"
			} else if d.Name == "coatcheck-api" {
				port, may, what = "api", client.labels["coatcheck-api"] == "true", "call the session API"
			} else if d.Name != "coatcheck" {
				continue
			}
			switch in := admits(m, m.policy(d), client.labels, map[string]string{"app": "any"}, port); {
			case may && !in:
				m.problem("%s may not %s", client.name, what)
			case in && !may:
				m.problem("%s gets in to %s", client.name, what)
			}
		}
	}
	for _, p := range m.policies {
		for _, rule := range p.Spec.Ingress {
			if slices.ContainsFunc(rule.From, func(p networkingv1.NetworkPolicyPeer) bool {
				return p.IPBlock != nil && p.IPBlock.CIDR != ambientProbing
			}) {
				m.problem("NetworkPolicy %s lets an address in, which any pod may have", p.Name)
			}
		}
	}
}

// admits reports whether a policy lets pods with these labels, of a namespace with
// those, in to a port by its name; nil is the policy's own namespace. No policy at
// all lets everything in.
func admits(m *manifests, p *networkingv1.NetworkPolicy, namespace, pod map[string]string, port string) bool {
	if p == nil {
		return true
	}
	takes := func(selector *metav1.LabelSelector, set map[string]string) bool {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			m.problem("NetworkPolicy %s: %v", p.Name, err)
			return false
		}
		return s.Matches(labels.Set(set)) // an empty one takes everything
	}
	from := func(peer networkingv1.NetworkPolicyPeer) bool {
		return peer.IPBlock == nil && // looked at elsewhere
			(peer.NamespaceSelector == nil && namespace == nil || peer.NamespaceSelector != nil && takes(peer.NamespaceSelector, namespace)) &&
			(peer.PodSelector == nil || takes(peer.PodSelector, pod))
	}
	to := func(n networkingv1.NetworkPolicyPort) bool { return n.Port == nil || n.Port.String() == port }
	return slices.ContainsFunc(p.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
		return (len(rule.From) == 0 || slices.ContainsFunc(rule.From, from)) && (len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, to))
	})
}

// checkScale finds the Deployment of each autoscaler and the pods of each budget.
func (m *manifests) checkScale() {
	some := func(is func(*appsv1.Deployment) bool) bool { return slices.ContainsFunc(m.deployments, is) }
	for _, a := range m.autoscalers {
		if !some(func(d *appsv1.Deployment) bool { return scales(a, d) }) {
			m.problem("HorizontalPodAutoscaler %s is for %s %s", a.Name, a.Spec.ScaleTargetRef.Kind, a.Spec.ScaleTargetRef.Name)
		}
		if a.Spec.MinReplicas == nil || *a.Spec.MinReplicas < 3 || a.Spec.MaxReplicas <= *a.Spec.MinReplicas {
			m.problem("HorizontalPodAutoscaler %s: minReplicas is less than 3, or not less than maxReplicas", a.Name)
		}
	}
	for _, b := range m.budgets {
		if !some(func(d *appsv1.Deployment) bool { return matches(m, b.Name, b.Spec.Selector, d.Spec.Template.Labels) }) {
			m.problem("PodDisruptionBudget %s selects no pods", b.Name)
		}
		if b.Spec.MaxUnavailable == nil || b.Spec.MaxUnavailable.IntValue() < 1 {
			m.problem("PodDisruptionBudget %s lets no node be drained", b.Name)
		}
		if p := b.Spec.UnhealthyPodEvictionPolicy; p == nil || *p != policyv1.AlwaysAllow {
			m.problem("PodDisruptionBudget %s: unhealthyPodEvictionPolicy is not AlwaysAllow", b.Name)
		}
	}
}

// scales says if an autoscaler has the number of a Deployment's replicas.
func scales(a *autoscalingv2.HorizontalPodAutoscaler, d *appsv1.Deployment) bool {
	t := a.Spec.ScaleTargetRef
	return t.APIVersion == "apps/v1" && t.Kind == "Deployment" && t.Name == d.Name
}

// checkRollout looks at what keeps enough of a side running.
func (m *manifests) checkRollout(d *appsv1.Deployment) {
	pods := d.Spec.Template.Labels
	scaled := slices.ContainsFunc(m.autoscalers, func(a *autoscalingv2.HorizontalPodAutoscaler) bool { return scales(a, d) })
	if r := d.Spec.Strategy.RollingUpdate; r == nil || r.MaxUnavailable == nil || r.MaxUnavailable.String() != "0" || r.MaxSurge == nil || r.MaxSurge.String() != "1" {
		m.problem("%s: a rollout takes pods away before there are new ones", d.Name)
	}
	if scaled == (d.Spec.Replicas != nil) {
		m.problem("%s: replicas: either the Deployment or an autoscaler has their number", d.Name)
	}
	if one := !scaled && d.Spec.Replicas != nil && *d.Spec.Replicas < 2; !one && !slices.ContainsFunc(m.budgets, func(b *policyv1.PodDisruptionBudget) bool {
		return matches(m, b.Name, b.Spec.Selector, pods)
	}) {
		m.problem("%s: no PodDisruptionBudget is about it", d.Name)
	}
	keys := map[string]bool{}
	for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
		keys[c.TopologyKey] = true
		if !matches(m, d.Name, c.LabelSelector, pods) {
			m.problem("%s: topologySpreadConstraints selects other pods", d.Name)
		}
		if !slices.Equal(c.MatchLabelKeys, []string{"pod-template-hash"}) {
			m.problem("%s: topologySpreadConstraints: matchLabelKeys is not pod-template-hash", d.Name)
		}
	}
	if !keys[corev1.LabelTopologyZone] || !keys[corev1.LabelHostname] {
		m.problem("%s: topologySpreadConstraints: not by zone and host", d.Name)
	}
}

// checkProgram compares the manifests with what the program says that it does.
// It returns no settings where the program has none.
func (m *manifests) checkProgram(d *appsv1.Deployment) (s settings) {
	pod := d.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		m.problem("Deployment %s has %d containers", d.Name, len(pod.Containers))
		return s
	}
	c := pod.Containers[0]
	if len(c.Command) > 0 || len(c.Args) != 3 || c.Args[0] != "serve" || c.Args[1] != "--config" {
		m.problem("the arguments are not serve --config FILE but %q", c.Args)
		return s
	}
	file, ok := m.mounted(d, c, c.Args[2])
	if !ok {
		m.problem("%s: nothing is mounted at %s", d.Name, c.Args[2])
		return s
	}
	var variables []string
	for _, e := range c.Env {
		if !strings.HasPrefix(e.Name, "COATCHECK_") {
			m.problem("the variable %s does not begin with COATCHECK_", e.Name)
		}
		variables = append(variables, e.Name+"="+e.Value)
	}
	s, err := effective(file, variables)
	if err != nil {
		m.problem("%s: %v", d.Name, err)
		return settings{}
	}
	for _, f := range s.files() {
		if _, ok := m.mounted(d, c, f); !ok {
			m.problem("%s: nothing is mounted at %s", d.Name, f)
		}
	}

	for _, p := range sideProblems(s, c.Resources.Limits.Memory().Value()) {
		m.problem("%s: %s", d.Name, p)
	}
	if login := d.Name == "coatcheck-login"; s.servesLogin() != login {
		m.problem("%s: it serves login: %t", d.Name, s.servesLogin())
	}
	m.checkListens(d, "grpc", "listen", s.Listen)
	m.checkListens(d, "http", "login.listen", s.Login.Listen)
	m.checkListens(d, "api", "api.listen", s.API.Listen)
	m.checkListens(d, "admin", "admin.listen", s.Admin.Listen)
	admin := number(d, intstr.FromString("admin"))
	if a := d.Spec.Template.Annotations; a["prometheus.io/port"] != strconv.Itoa(int(admin)) || a["prometheus.io/path"] != "/metrics" {
		m.problem("metrics are scraped at %s%s", a["prometheus.io/port"], a["prometheus.io/path"])
	}
	m.checkProbes(c, s, admin)
	m.checkEnd(pod, c, s)
	m.checkService(d, s)
	m.checkEgress(d, s, file)
	return s
}

// checkListens wants an address to have the number of the port, if there is one, and
// to be empty where there is none.
func (m *manifests) checkListens(d *appsv1.Deployment, port, key, address string) {
	want := ""
	if n := number(d, intstr.FromString(port)); n != 0 {
		want = ":" + strconv.Itoa(int(n))
	}
	if address != want {
		m.problem("%s: %s is %q, and its port %s is %q", d.Name, key, address, port, want)
	}
}

// mounted is the content of a file that a volume brings. Of a secret it is empty.
func (m *manifests) mounted(d *appsv1.Deployment, c corev1.Container, file string) (string, bool) {
	for _, mount := range c.VolumeMounts {
		if mount.MountPath != path.Dir(file) {
			continue
		}
		for _, v := range d.Spec.Template.Spec.Volumes {
			switch {
			case v.Name != mount.Name:
			case v.ConfigMap != nil:
				text, ok := m.configs[v.ConfigMap.Name][path.Base(file)]
				return text, ok
			case v.Secret != nil:
				return "", slices.Contains(m.secrets[v.Secret.SecretName], path.Base(file))
			}
		}
	}
	return "", false
}

// secretAt is the name of the Secret that brings a file.
func (m *manifests) secretAt(deployment, file string) string {
	for _, d := range m.deployments {
		for _, v := range d.Spec.Template.Spec.Volumes {
			if d.Name == deployment && v.Secret != nil && slices.ContainsFunc(d.Spec.Template.Spec.Containers[0].VolumeMounts, func(mount corev1.VolumeMount) bool {
				return mount.Name == v.Name && mount.MountPath == path.Dir(file)
			}) {
				return v.Secret.SecretName
			}
		}
	}
	return ""
}

// checkProbes wants them on the admin port: the kubelet speaks no TLS, and clients can fill
// every other port, so that it would kill a pod that serves them.
func (m *manifests) checkProbes(c corev1.Container, s settings, admin int32) {
	for _, p := range []struct {
		name  string
		probe *corev1.Probe
		path  string
	}{
		{"startupProbe", c.StartupProbe, "/healthz"},
		{"livenessProbe", c.LivenessProbe, "/healthz"},
		{"readinessProbe", c.ReadinessProbe, "/readyz"},
	} {
		switch {
		case p.probe == nil: // said already
		case p.probe.HTTPGet == nil:
			m.problem("%s: it does not ask the admin port, which alone its clients cannot fill", p.name)
		case p.probe.HTTPGet.Port.StrVal != "admin" && p.probe.HTTPGet.Port.IntVal != admin:
			m.problem("%s: it asks port %s, and admin.listen is %s", p.name, p.probe.HTTPGet.Port.String(), s.Admin.Listen)
		case p.probe.HTTPGet.Path != p.path:
			m.problem("%s: it asks %s, not %s", p.name, p.probe.HTTPGet.Path, p.path)
		}
	}
}

// checkEnd wants time for an end in order.
func (m *manifests) checkEnd(pod corev1.PodSpec, c corev1.Container, s settings) {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		m.problem("preStop does not sleep, and the image has no shell that could")
		return
	}
	need := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + s.Shutdown.Drain.Duration + s.Shutdown.Grace.Duration
	if pod.TerminationGracePeriodSeconds == nil || time.Duration(*pod.TerminationGracePeriodSeconds)*time.Second <= need {
		m.problem("terminationGracePeriodSeconds is not more than preStop, shutdown.drain and shutdown.grace, %s", need)
	}
}

// checkService wants every pod of the authorization side in DNS, and says what the
// ports speak.
func (m *manifests) checkService(d *appsv1.Deployment, s settings) {
	protocol := ""
	switch {
	case s.API.Listen != "", !s.checks() && s.Login.TLS.Cert != "":
		protocol = "https"
	case !s.checks():
		protocol = "http"
	case s.TLS.Cert == "":
		protocol = "kubernetes.io/h2c"
	}
	for _, service := range m.services {
		if service.Name != d.Name {
			continue
		}
		if headless := service.Spec.ClusterIP == corev1.ClusterIPNone; headless != (s.checks() || s.API.Listen != "") || service.Spec.PublishNotReadyAddresses {
			m.problem("Service %s: headless: %t; or it has pods that are not ready", d.Name, headless)
		}
		if t := service.Spec.Type; t != "" && t != corev1.ServiceTypeClusterIP {
			m.problem("Service %s: its type is %s, and it is for Envoy alone", d.Name, t)
		}
		for _, p := range service.Spec.Ports {
			if (p.AppProtocol == nil) != (protocol == "") || p.AppProtocol != nil && *p.AppProtocol != protocol {
				m.problem("Service %s: appProtocol is not what the port speaks", d.Name)
			}
		}
		return
	}
	m.problem("there is no Service %s", d.Name)
}

// checkEgress follows the ways to DNS, to Redis and to the users' database.
func (m *manifests) checkEgress(d *appsv1.Deployment, s settings, file string) {
	ours := m.policy(d)
	if ours == nil {
		return // said already
	}
	open := func(protocol corev1.Protocol, port int) bool {
		return slices.ContainsFunc(ours.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
			return slices.ContainsFunc(r.Ports, func(p networkingv1.NetworkPolicyPort) bool {
				return p.Port != nil && p.Port.IntValue() == port && p.Protocol != nil && *p.Protocol == protocol
			})
		})
	}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
		if !open(protocol, 53) {
			m.problem("NetworkPolicy %s: no egress to %s 53", ours.Name, protocol)
		}
	}
	m.checkPostgres(ours, s, file, open)
	for _, a := range s.Redis.Addresses {
		host, port, _ := strings.Cut(a, ":")
		if n, err := strconv.Atoi(port); err != nil || !open(corev1.ProtocolTCP, n) {
			m.problem("NetworkPolicy %s: no egress to Redis at %s", ours.Name, a)
		}
		if i := slices.IndexFunc(m.deployments, func(d *appsv1.Deployment) bool { return d.Name == "redis" }); i >= 0 {
			m.checkRedis(host, d, m.deployments[i])
		}
	}
}

// checkPostgres wants a way to the users' database, by TLS, and no password in
// the file. The program does not print the DSN, so it is read from there.
func (m *manifests) checkPostgres(ours *networkingv1.NetworkPolicy, s settings, file string, open func(corev1.Protocol, int) bool) {
	if s.Login.Postgres.DSN == "" {
		return
	}
	var written struct {
		Login struct{ Postgres struct{ DSN string } }
	}
	if err := yaml.Unmarshal([]byte(file), &written); err != nil {
		m.problem("%v", err)
	}
	dsn, err := url.Parse(written.Login.Postgres.DSN)
	if err != nil || dsn.Host == "" {
		m.problem("login.postgres.dsn is no URL in the file: %v", err)
		return
	}
	if _, ok := dsn.User.Password(); ok || s.Login.Postgres.Password == "" {
		m.problem("login.postgres.dsn holds a password, or there is no password_file")
	}
	if dsn.Query().Get("sslmode") != "verify-full" || dsn.Query().Get("sslrootcert") != path.Dir(s.Login.Postgres.Password)+"/ca.crt" {
		m.problem("login.postgres.dsn does not verify the server by the ca.crt beside the password")
	}
	if port, err := strconv.Atoi(cmp.Or(dsn.Port(), "5432")); err != nil || !open(corev1.ProtocolTCP, port) {
		m.problem("NetworkPolicy %s: no egress to PostgreSQL at %s", ours.Name, dsn.Host)
	}
}

// checkRedis looks at the Redis that an overlay brings.
func (m *manifests) checkRedis(host string, d, redis *appsv1.Deployment) {
	if !slices.ContainsFunc(m.services, func(s *corev1.Service) bool { return s.Name == host }) {
		m.problem("there is no Service %s", host)
	}
	in, out := m.policy(redis), m.policy(d)
	if in == nil || !slices.ContainsFunc(in.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
		return slices.ContainsFunc(r.From, func(p networkingv1.NetworkPolicyPeer) bool {
			return matches(m, in.Name, p.PodSelector, d.Spec.Template.Labels)
		})
	}) {
		m.problem("no NetworkPolicy of redis lets %s in", d.Name)
	}
	if !slices.ContainsFunc(out.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
		return slices.ContainsFunc(r.To, func(p networkingv1.NetworkPolicyPeer) bool {
			return p.NamespaceSelector == nil && matches(m, out.Name, p.PodSelector, redis.Spec.Template.Labels)
		})
	}) {
		m.problem("no NetworkPolicy of %s lets it out to redis", d.Name)
	}
}

// matches says if a selector, of which there is one, takes these labels.
func matches(m *manifests, who string, selector *metav1.LabelSelector, set map[string]string) bool {
	if selector == nil {
		return false
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		m.problem("%s: %v", who, err)
		return false
	}
	return !s.Empty() && s.Matches(labels.Set(set))
}

// pinned reports whether an image has a version, and not merely the newest.
func pinned(image string) bool {
	if strings.Contains(image, "@sha256:") {
		return true
	}
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, ok := strings.Cut(name, ":")
	return ok && tag != "" && tag != "latest"
}

// secretName says if a variable would hold a secret; the name of a file is none.
func secretName(name string) bool {
	return !strings.HasSuffix(name, "_FILE") && (strings.Contains(name, "PASSWORD") || strings.Contains(name, "SECRET") || strings.Contains(name, "TOKEN"))
}
