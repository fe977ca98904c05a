package story_test

import (
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/story"
)

// BenchmarkParse: a decision line in each form.
func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{
		"JSON": `{"time":"2026-11-26T10:00:02.123456789Z","level":"INFO","msg":"check","verdict":"allow","reason":"ok","status":0,"route":"required","session":"AAAAAAAAAAAA","method":"GET","host":"shop.example","path":"/","request_id":"bed266bf-3c50-4f1c-93a7-6c0e1a5c1d11","duration":123456,"lookup_duration":123456}`,
		"text": `time=2026-11-26T10:00:02.123Z level=INFO msg=check verdict=allow reason=ok status=0 route=required session=AAAAAAAAAAAA method=GET host=shop.example path=/ request_id=bed266bf-3c50-4f1c-93a7-6c0e1a5c1d11 duration=123.456µs lookup_duration=123.456µs`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := story.Parse([]byte(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
