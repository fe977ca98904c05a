package manifests

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The monitoring scrapes every pod of both sides, by a port that each of them has and
// that their network policies open.
func TestMonitoring(t *testing.T) {
	good := build(t, overlay(t, "monitoring", read(t, "k8s/base/coatcheck.yaml"), read(t, "k8s/base/login/coatcheck.yaml")))
	for _, p := range monitoringProblems(good) {
		t.Error(p)
	}
	for _, m := range []mutation{
		{"another port", "targetPort: admin", "targetPort: metrics", "coatcheck has no port metrics"},
		{"one side alone", "  publishNotReadyAddresses: true\n  selector:\n", "  publishNotReadyAddresses: true\n  selector:\n    app.kubernetes.io/component: check\n", "coatcheck-login is not scraped"},
		{"ready pods alone", "publishNotReadyAddresses: true", "publishNotReadyAddresses: false", "not ready"},
		{"a monitor of another Service", "      app.kubernetes.io/component: metrics\n", "      app.kubernetes.io/component: other\n", "selects no Service"},
		{"an endpoint without its port", "  - interval: 15s\n    path: /metrics\n    port: metrics\n", "  - interval: 15s\n    path: /metrics\n    port: http\n", "has no port http"},
		{"no rules", "kind: PrometheusRule", "kind: Prometheus", "no PrometheusRule"},
		{"a dashboard that Grafana passes over", "grafana_dashboard: \"1\"", "dashboard: \"1\"", "no dashboard"},
	} {
		caught(t, good, m, monitoringProblems)
	}
}

// A monitor is what is read of a ServiceMonitor.
type monitor struct {
	Spec struct {
		Selector  struct{ MatchLabels map[string]string }
		Endpoints []struct{ Port, Path string }
	}
}

func monitoringProblems(built string) []string {
	m := &manifests{}
	var services []corev1.Service
	var deployments []appsv1.Deployment
	var monitors []monitor
	rules, dashboards := 0, 0
	for _, text := range strings.Split(built, "\n---\n") {
		var of struct {
			Kind     string
			Metadata struct{ Labels map[string]string }
		}
		if err := yaml.Unmarshal([]byte(text), &of); err != nil {
			return []string{err.Error()}
		}
		switch of.Kind {
		case "Service":
			services = append(services, decoded[corev1.Service](m, text))
		case "Deployment":
			deployments = append(deployments, decoded[appsv1.Deployment](m, text))
		case "ServiceMonitor":
			monitors = append(monitors, decoded[monitor](m, text))
		case "PrometheusRule":
			rules++
		case "ConfigMap":
			if of.Metadata.Labels["grafana_dashboard"] == "1" {
				dashboards++
			}
		}
	}
	if rules != 1 {
		m.problem("there is no PrometheusRule, or more than one")
	}
	if dashboards != 1 {
		m.problem("there is no dashboard, or more than one")
	}
	for _, monitor := range monitors {
		m.scrapes(monitor, services, deployments)
	}
	return m.problems
}

func decoded[T any](m *manifests, text string) (v T) {
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		m.problem("%v", err)
	}
	return v
}

// scrapes looks for the Services of a monitor and for every Deployment behind them.
func (m *manifests) scrapes(of monitor, services []corev1.Service, deployments []appsv1.Deployment) {
	i := slices.IndexFunc(services, func(s corev1.Service) bool { return within(of.Spec.Selector.MatchLabels, s.Labels) })
	if i < 0 {
		m.problem("the ServiceMonitor selects no Service")
		return
	}
	service := services[i]
	if !service.Spec.PublishNotReadyAddresses {
		m.problem("pods that are not ready are not scraped")
	}
	for _, endpoint := range of.Spec.Endpoints {
		n := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == endpoint.Port })
		if n < 0 {
			m.problem("the Service %s has no port %s", service.Name, endpoint.Port)
			continue
		}
		for _, d := range deployments {
			target := service.Spec.Ports[n].TargetPort.StrVal
			if !within(service.Spec.Selector, d.Spec.Template.Labels) {
				m.problem("%s is not scraped", d.Name)
			} else if !slices.ContainsFunc(d.Spec.Template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool { return p.Name == target }) {
				m.problem("%s has no port %s", d.Name, target)
			}
		}
	}
}

// within reports whether the labels have all that are wanted.
func within(wanted, labels map[string]string) bool {
	for name, value := range wanted {
		if labels[name] != value {
			return false
		}
	}
	return true
}
