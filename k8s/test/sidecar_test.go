package manifests

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// sidecarSocket is where Coatcheck listens beside an Envoy.
const sidecarSocket = "/run/coatcheck/check.sock"

// TestSidecar: the login side stands in the namespace coatcheck as in the base, and each
// Envoy of the namespace edge has a Coatcheck that fits it and login.
func TestSidecar(t *testing.T) {
	built := build(t, "overlays/sidecar")
	for _, p := range manifestProblems(built, baseSecrets) {
		// Login alone: checks are elsewhere, and only edge leads browsers to it.
		if !slices.Contains([]string{"there is no Deployment coatcheck", "a namespace with login's label may not login", "a namespace with both labels may not login"}, p) {
			t.Error(p)
		}
	}
	for _, p := range sidecarProblems(built) {
		t.Error(p)
	}
	at := strings.Index(built, "\nmetadata:\n  labels:\n    app.kubernetes.io/name: envoy\n    coatcheck-sidecar")
	rest, edge := built[:at], built[at:]
	for _, m := range []mutation{
		{"another container", "        name: coatcheck\n        ports:", "        name: other\n        ports:", "no Coatcheck beside"},
		{"another socket for Envoy", "path: " + sidecarSocket, "path: /run/coatcheck/other.sock", "Envoy calls"},
		{"another socket of Coatcheck", "listen: unix://" + sidecarSocket, "listen: unix:///run/coatcheck/other.sock", "it listens on"},
		{"a folder that is not shared", "mountPath: /run/coatcheck\n          name: coatcheck-socket\n          readOnly: true", "mountPath: /run/elsewhere\n          name: coatcheck-socket", "does not see the socket"},
		{"no native sidecar", "restartPolicy: Always", "restartPolicy: Never", "restart"},
		{"another Redis than login's", "redis.coatcheck:6379", "redis.edge:6379", "redis.addresses"},
		{"the Redis user of login", "username: coatcheck-check", "username: coatcheck-login", "Redis user"},
		{"as root", "runAsUser: 65532", "runAsUser: 0", "runAsUser"},
		{"no group for the socket", "fsGroup: 65532", "fsGroup: 0", "fsGroup"},
	} {
		caught(t, edge, m, func(edge string) []string { return sidecarProblems(rest + edge) })
	}
}

// sidecarProblems says what is wrong with the Envoys of the namespace edge and the
// Coatcheck beside each.
func sidecarProblems(text string) []string {
	m := decode(text, "edge", map[string][]string{"coatcheck-redis": {"password"}})
	// The name of Redis as the namespace edge says it.
	text = strings.ReplaceAll(text, "[redis:6379]", `["redis.coatcheck:6379"]`)
	login, ok := decode(text, "coatcheck", baseSecrets).checkSide("coatcheck-login")
	if !ok {
		m.problem("there is no login")
	}
	if len(m.deployments) == 0 {
		m.problem("there is no Envoy")
	}
	for _, d := range m.deployments {
		m.checkPod(d)
		m.checkReferences(d)
		m.checkSidecar(d, login)
	}
	return m.problems
}

// checkSidecar looks at the Coatcheck of one Envoy.
func (m *manifests) checkSidecar(d *appsv1.Deployment, login settings) {
	pod := d.Spec.Template.Spec
	i := slices.IndexFunc(pod.InitContainers, func(c corev1.Container) bool { return c.Name == "coatcheck" })
	if i < 0 || len(pod.Containers) != 1 {
		m.problem("%s: no Coatcheck beside one Envoy", d.Name)
		return
	}
	c, envoy := pod.InitContainers[i], pod.Containers[0]
	if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		m.problem("%s: a sidecar has restartPolicy: Always", d.Name)
	}
	if pod.SecurityContext.FSGroup == nil || *pod.SecurityContext.FSGroup != *c.SecurityContext.RunAsGroup {
		m.problem("%s: fsGroup is not the group of the socket", d.Name)
	}
	file, _ := m.mounted(d, c, c.Args[2])
	s, err := effective(file, nil)
	if err != nil {
		m.problem("%s: %v", d.Name, err)
		return
	}
	m.problems = append(m.problems, sideProblems(s, c.Resources.Limits.Memory().Value())...)
	m.problems = append(m.problems, sharedProblems(s, login)...)
	m.checkSocket(d, s, c, envoy)
}

// checkSocket wants both to mean one socket.
func (m *manifests) checkSocket(d *appsv1.Deployment, s settings, c, envoy corev1.Container) {
	if s.Listen != "unix://"+sidecarSocket {
		m.problem("%s: it listens on %s", d.Name, s.Listen)
	}
	if file, ok := m.mounted(d, envoy, "/etc/envoy/envoy.yaml"); !ok || !strings.Contains(file, "pipe: {path: "+sidecarSocket+"}") {
		m.problem("%s: Envoy calls another socket", d.Name)
	}
	for _, one := range []corev1.Container{c, envoy} {
		if !slices.ContainsFunc(one.VolumeMounts, func(v corev1.VolumeMount) bool {
			return v.Name == "coatcheck-socket" && strings.HasPrefix(sidecarSocket, v.MountPath+"/")
		}) {
			m.problem("%s: %s does not see the socket", d.Name, one.Name)
		}
	}
}
