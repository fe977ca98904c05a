package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// patience is how long one step may take on a busy machine.
const patience = 40 * time.Second

// A browser is a Chromium with an empty profile of its own, and its one page.
type browser struct {
	*testing.T
	ctx   context.Context
	front string // where everything is

	mu    sync.Mutex
	amiss []string
}

// open starts a browser that ends with the test, and then says what was amiss on
// the console.
func open(t *testing.T, s *rig.Stack, options ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	// Not the test's context, which ends before the browser does.
	allocator, release := chromedp.NewExecAllocator(context.Background(), append([]chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("password-store", "basic"),
		chromedp.Flag("lang", "en-GB"),
		// Nothing outside of this machine exists.
		chromedp.Flag("host-resolver-rules", "MAP * 127.0.0.1"),
	}, options...)...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &browser{T: t, ctx: ctx, front: front(s)}
	t.Cleanup(func() {
		b.end(cancel, release)
		if t.Failed() {
			t.Logf("coatcheck:\n%s", s.Coatcheck.Output())
		}
	})
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	call(b, audits.Enable, cdp.Empty{})
	// As if its window were the one in front.
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	return b
}

// end closes the browser, or kills it if it does not close.
func (b *browser) end(cancel, release context.CancelFunc) {
	farewell, forget := context.WithTimeout(b.ctx, 10*time.Second)
	_ = chromedp.Cancel(farewell)
	forget()
	cancel()
	release()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, what := range b.amiss {
		b.Errorf("amiss in the browser: %s", what)
	}
}

// listen notes what no page of ours may do: write to the console, break the
// Content-Security-Policy, load anything besides itself. That a document came
// with a status of 400 or more is an entry, too, but no error; and for the
// upstream's answers Chromium asks for an icon.
func (b *browser) listen(event any) {
	what := ""
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		what = fmt.Sprintf("console.%s", e.Type)
	case *runtime.EventExceptionThrown:
		what = e.ExceptionDetails.Text
	case *log.EventEntryAdded:
		// Over plain http the header has no effect, and Chromium says so.
		if strings.HasPrefix(e.Entry.Text, "The Cross-Origin-Opener-Policy header has been ignored") {
			return
		}
		if e.Entry.Source != log.EntrySourceNetwork && (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) {
			what = fmt.Sprintf("%s %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text)
		}
	case *audits.EventIssueAdded:
		// The tests provoke the others: a cookie that another site may not send, a
		// script that asks for cookies.
		if code := e.Issue.Code; code != audits.InspectorIssueCodeCookieIssue && code != audits.InspectorIssueCodePerformanceIssue {
			details, _ := json.Marshal(e.Issue.Details)
			what = fmt.Sprintf("%s %s", code, details)
		}
	case *network.EventRequestWillBeSent:
		if e.Type != network.ResourceTypeDocument && strings.Contains(e.DocumentURL, "/.auth/") && !strings.HasPrefix(e.Request.URL, "data:") {
			what = fmt.Sprintf("%s %s", e.Type, e.Request.URL)
		}
	}
	if what == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.amiss = append(b.amiss, what)
}

// act is one step, which the test must not fail at.
func act[T any](b *browser, a chromedp.Action[T]) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, a)
	if err != nil {
		b.Fatalf("at %s: %v", b.where(), err)
	}
	return value
}

// call is one command of the DevTools protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], parameters P) R {
	b.Helper()
	return act(b, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, parameters)
	})
}

// value is what an expression comes to on the page.
func value[T any](b *browser, expression string, options ...chromedp.EvaluateOption) T {
	b.Helper()
	return act(b, chromedp.Evaluate[T](expression, options...))
}

// where is the page's address, without the front's.
func (b *browser) where() string {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	location, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(location, b.front)
}

// at fails the test unless the page is there.
func (b *browser) at(want string) {
	b.Helper()
	if got := b.where(); got != want {
		b.Errorf("the browser is at %s, want %s", got, want)
	}
}

// visit goes to an address, and returns the status with which it came; one
// without a host is at the front.
func (b *browser) visit(url string) int64 {
	b.Helper()
	if strings.HasPrefix(url, "/") {
		url = b.front + url
	}
	return act(b, chromedp.NavigateResponse(url)).Status
}

// press clicks on what leads to another page, and returns its status.
func (b *browser) press(selector string) int64 {
	b.Helper()
	return b.leads(chromedp.Click(chromedp.CSS(selector)))
}

// leads does something that leads to another page, and returns its status.
func (b *browser) leads(step chromedp.Action[chromedp.Void]) int64 {
	b.Helper()
	return act(b, func(ctx context.Context, _ *chromedp.Target) (int64, error) {
		response, err := chromedp.RunResponse(ctx, step)
		if err != nil {
			return 0, err
		}
		return response.Status, nil
	})
}

// back goes back in the history, whether the page is loaded anew or was kept.
func (b *browser) back() {
	b.Helper()
	from := b.where()
	act(b, chromedp.Evaluate[chromedp.Void]("history.back()"))
	eventually(b.T, "there is no way back from "+from, func() bool { return b.where() != from })
	act(b, chromedp.WaitReady(chromedp.CSS("body")))
}

// types writes on the keyboard into a field.
func (b *browser) types(selector, text string) {
	b.Helper()
	act(b, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// signIn fills in the form that the browser is at, and returns the status of
// what comes then.
func (b *browser) signIn(username, password string) int64 {
	b.Helper()
	act(b, chromedp.Clear(chromedp.CSS("#username")))
	b.types("#username", username)
	b.types("#password", password)
	return b.press("button")
}

// reads is the text of an element, as people see it.
func (b *browser) reads(selector string) string {
	b.Helper()
	return act(b, func(ctx context.Context, target *chromedp.Target) (text string, err error) {
		for range 10 {
			text, err = chromedp.Text(chromedp.CSS(selector))(ctx, target)
			// Chromium may make a page of JSON anew between finding the element and reading it.
			if err == nil || !strings.Contains(err.Error(), "No node with given id") {
				break
			}
		}
		return text, err
	})
}

// shows fails the test unless the page came with this status and shows the text.
func (b *browser) shows(status, want int64, text string) {
	b.Helper()
	if page := b.reads("body"); status != want || !strings.Contains(page, text) {
		b.Fatalf("status %d at %s, want %d and %q:\n%s", status, b.where(), want, text, page)
	}
}

// sent is the request that the upstream was sent for the page, which is its
// answer.
func (b *browser) sent() rig.Echoed {
	b.Helper()
	var e rig.Echoed
	if err := json.Unmarshal([]byte(b.reads("pre")), &e); err != nil {
		b.Fatalf("at %s, which is not the upstream's: %v\n%s", b.where(), err, b.reads("body"))
	}
	return e
}

// identity is what the upstream was told about the user.
func (b *browser) identity() map[string]string {
	b.Helper()
	found := make(map[string]string)
	for name, values := range b.sent().Headers {
		if strings.HasPrefix(name, "X-User-") && name != "X-User-Session" {
			found[name] = strings.Join(values, " AND ")
		}
	}
	return found
}

// cookies are those that the browser holds for its front.
func (b *browser) cookies() []*network.Cookie {
	b.Helper()
	return call(b, network.GetCookies, network.GetCookiesParams{URLs: []string{b.front}}).Cookies
}
