package doctor

import (
	"regexp"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// The findings of Coatcheck's own objects in Kubernetes.
const (
	KubernetesConfig    ID = "KUBERNETES_CONFIG"
	KubernetesGrace     ID = "KUBERNETES_GRACE"
	KubernetesReadiness ID = "KUBERNETES_READINESS"
	KubernetesHTTP1     ID = "KUBERNETES_SERVICE_HTTP1"
)

var kubernetesRules = []Rule{
	{KubernetesConfig, Error, "Coatcheck does not start with this configuration", "A new pod ends with the same message, and the rollout stops.", "Coatcheck, `docs/mistakes.md`", "correct it; `coatcheck config check FILE` tries a file"},
	{KubernetesGrace, Warning, "a pod is killed before it has ended", "Requests in flight fail in each rollout, because `terminationGracePeriodSeconds` is less than the wait of preStop, `shutdown.drain` and `shutdown.grace` together.", "Coatcheck, `docs/deploy.md`", "raise `terminationGracePeriodSeconds`, or shorten the others"},
	{KubernetesReadiness, Warning, "Kubernetes does not notice a replica that stops", "Without a readiness probe a pod that drains, or has not started yet, gets requests.", "Coatcheck, `docs/deploy.md`", "copy the probes of `k8s/base/deployment.yaml`"},
	{KubernetesHTTP1, Error, "the Service does not say that the port speaks HTTP/2", "A mesh then speaks HTTP/1 or plain TCP to it, and checks fail, or all stay on one pod.", "Kubernetes, `Service.spec.ports.appProtocol`; Istio, protocol selection", "name the port `grpc`, and set `appProtocol: kubernetes.io/h2c`"},
}

// coatcheckContainer is the container of a workload that runs Coatcheck, if it has one.
func coatcheckContainer(o *object) envoyconfig.Value {
	pod := o.spec.Get("template", "spec")
	for _, c := range append(pod.Get("containers").Items(), pod.Get("initContainers").Items()...) {
		if isCoatcheck(c.Get("image").Text()) {
			return c
		}
	}
	return envoyconfig.Value{}
}

// isCoatcheck reports whether an image is Coatcheck's, by its name.
func isCoatcheck(image string) bool {
	image, _, _ = strings.Cut(image, "@")
	base := image[strings.LastIndexByte(image, '/')+1:]
	base, _, _ = strings.Cut(base, ":")
	return base == "coatcheck"
}

// own looks at Coatcheck's own workloads and Services.
func (k *kubernetes) own(parts []part) {
	for _, p := range parts {
		if p.err != nil {
			k.add(KubernetesConfig, p.at, "%s", firstLine(p.err))
			continue
		}
		if p.workload != nil {
			k.workload(p)
		}
	}
	for _, o := range k.of("", "Service") {
		for _, port := range o.spec.Get("ports").Items() {
			if k.isGRPC(o, port) && !speaksHTTP2(port) {
				k.add(KubernetesHTTP1, o.at(port), "port %s", port.Get("port").Text())
			}
		}
	}
}

// workload looks at how its pods stop.
func (k *kubernetes) workload(p part) {
	o, pod := p.workload, p.workload.spec.Get("template", "spec")
	c := coatcheckContainer(o)
	if !o.spec.Get("selector").Exists() {
		return // a patch of a kustomization, and not the whole
	}
	if !c.Get("readinessProbe").Exists() {
		k.add(KubernetesReadiness, o.at(c), "container %q has no readinessProbe", c.Get("name").Text())
	}
	grace := 30 * time.Second // Kubernetes' default
	if v := pod.Get("terminationGracePeriodSeconds"); v.Exists() {
		grace = time.Duration(v.Int()) * time.Second
	}
	wait := time.Duration(c.Get("lifecycle", "preStop", "sleep", "seconds").Int()) * time.Second
	if needed := wait + p.config.Drain + p.config.ShutdownGrace; grace < needed {
		k.add(KubernetesGrace, o.at(pod.Get("terminationGracePeriodSeconds"), pod), "it has %s, and needs %s", grace, needed)
	}
}

// isGRPC reports whether a port of a Service leads to Coatcheck's checks.
func (k *kubernetes) isGRPC(service *object, port envoyconfig.Value) bool {
	target := port.Get("targetPort").Text()
	if target == "" {
		target = port.Get("port").Text()
	}
	selector := service.spec.Get("selector")
	for _, w := range k.workloads() {
		c := coatcheckContainer(w)
		if !c.Exists() || !selector.Exists() || w.namespace != service.namespace || !selects(selector, w.spec.Get("template", "metadata", "labels")) {
			continue
		}
		for _, p := range c.Get("ports").Items() {
			if number := p.Get("containerPort").Text(); (target == p.Get("name").Text() || target == number) && (p.Get("name").Text() == "grpc" || number == "9001") {
				return true
			}
		}
	}
	return false
}

// speaksHTTP2 reports whether a port says so, by its appProtocol or by its name.
func speaksHTTP2(port envoyconfig.Value) bool {
	if v := port.Get("appProtocol"); v.Exists() {
		switch v.Text() {
		case "kubernetes.io/h2c", "grpc", "http2", "https", "tls":
			return true
		}
		return false
	}
	name, _, _ := strings.Cut(port.Get("name").Text(), "-")
	return name == "grpc" || name == "http2" || name == "https" || name == "tls"
}

var envoyImage = regexp.MustCompile(`(?:^|/)envoy(?:-distroless|-contrib|-debug)?:(?:distroless-|contrib-|debug-|distroless-)?v?(\d+\.\d+\.\d+)`)

// images looks for Envoys in a manifest or a compose file, and at their versions.
func (n *notebook) images(d *document, v envoyconfig.Value, depth int) {
	if depth == 0 {
		return
	}
	for name, inner := range v.Entries() {
		if found := envoyImage.FindStringSubmatch(inner.Text()); name == "image" && found != nil {
			checkVersion(n, d.at(inner), found[1])
		}
		n.images(d, inner, depth-1)
	}
	for _, inner := range v.Items() {
		n.images(d, inner, depth-1)
	}
}

// A part is a process of Coatcheck, and its configuration or why that is wrong.
type part struct {
	at       place
	workload *object // nil in a compose file
	config   *config.Config
	policies *[]byte // the text of its policy file, if it was read
	err      error
}

func firstLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) > 1 {
		return strings.TrimSpace(lines[0]) + " " + strings.TrimSpace(lines[1])
	}
	return lines[0]
}
