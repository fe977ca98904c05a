package stage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// asClient has the test program be a client: its value is the way, as an environment.
const asClient = "STAGE_TEST_CLIENT"

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// TestMain fails if a goroutine is left over.
func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	if os.Getenv(asClient) != "" {
		beClient()
		return
	}
	code := m.Run()
	if err := left(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// left are goroutines that go on. go-redis dials a node that was killed once a second, and
// looks only then whether its client was closed.
func left() (err error) {
	for range 40 {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}

// beClient asks Redis all the time, as a replica of Coatcheck does, and writes a line for
// each answer.
func beClient() {
	config := redisstore.At(strings.Split(os.Getenv("COATCHECK_REDIS_ADDRESSES"), ",")...)
	config.PasswordFile = os.Getenv("COATCHECK_REDIS_PASSWORD_FILE")
	config.MasterName = os.Getenv("COATCHECK_REDIS_MASTER_NAME")
	config.IsClusterMode = os.Getenv("COATCHECK_REDIS_CLUSTER") == "true"
	if file := os.Getenv("COATCHECK_REDIS_SENTINEL_PASSWORD_FILE"); file != "" {
		text, _ := os.ReadFile(file)
		config.SentinelPassword = strings.TrimSpace(string(text))
	}
	config.Username = os.Getenv("COATCHECK_REDIS_USERNAME")
	if ca := os.Getenv("COATCHECK_REDIS_TLS_CA_FILE"); ca != "" {
		config.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			files := clientTLS(ca, os.Getenv("COATCHECK_REDIS_TLS_CERT_FILE"), os.Getenv("COATCHECK_REDIS_TLS_KEY_FILE"))
			return (&tls.Dialer{Config: files}).DialContext(ctx, network, addr)
		}
	}
	client, err := redisstore.NewClient(config)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
		err := client.HMGet(ctx, fmt.Sprintf("session:client-%d", i%50), "user_id").Err()
		cancel()
		line := "ok"
		if err != nil {
			line = err.Error()
		}
		if _, err := fmt.Println(line); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// clientTLS is Coatcheck's side of TLS, by its files as they are now. Files that cannot be
// read are as if there were none.
func clientTLS(ca, cert, key string) *tls.Config {
	roots := x509.NewCertPool()
	if text, err := os.ReadFile(ca); err == nil {
		roots.AppendCertsFromPEM(text)
	}
	config := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
	if pair, err := tls.LoadX509KeyPair(cert, key); err == nil {
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}
