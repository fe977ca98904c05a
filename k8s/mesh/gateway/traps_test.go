package gateway

import "testing"

// TestTraps: what switches checks off, and what does not, in a running Envoy. Each trap is
// open here to show that the warning of it is true.
func TestTraps(t *testing.T) {
	m := start(t)
	m.until(t, 401, "GET /orders")

	m.apply(t, append(overlay(t), corsAlone("")))
	m.until(t, 200, "GET /orders") // the trap: CORS alone drops the check
	m.apply(t, append(overlay(t), corsAlone("StrategicMerge")))
	m.until(t, 401, "GET /orders")
	m.send(t, "GET /admin", "").is(t, 401)

	t.Run("a policy that is invalid is closed", func(t *testing.T) {
		m.apply(t, elsewhere(t, overlay(t), false))
		m.until(t, 500, "GET /orders")
	})
	t.Run("and open with failOpen", func(t *testing.T) {
		m.apply(t, elsewhere(t, overlay(t), true))
		m.until(t, 200, "GET /orders") // the trap: the policy is invalid, so it is left out
	})
	m.apply(t, overlay(t))
	m.until(t, 401, "GET /orders")

	_ = m.Coatcheck.Stop()
	m.until(t, 503, "GET /orders")
	t.Run("without an answer", func(t *testing.T) {
		m.send(t, "GET /public", "").is(t, 503)
		m.send(t, "GET /optional", "").is(t, 503)
		m.apply(t, failOpen(t, overlay(t)))
		m.until(t, 200, "GET /orders") // the trap
	})
}

func failOpen(t *testing.T, l objects) objects {
	l.find(t, "SecurityPolicy", "coatcheck").of("spec", "extAuth")["failOpen"] = true
	return l
}

// elsewhere makes the Gateway's policy name a server that is not there. (A missing
// ReferenceGrant has the same effect: TestTranslationOfMistakes.)
func elsewhere(t *testing.T, l objects, open bool) objects {
	extAuth := l.find(t, "SecurityPolicy", "coatcheck").of("spec", "extAuth")
	extAuth["failOpen"] = open
	extAuth.of("grpc").items("backendRefs")[0]["name"] = "nowhere"
	return l
}
