package apiserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// patience is how long the server may take to start, or to know a kind.
const patience = 2 * time.Minute

// A server is a kube-apiserver with its etcd, and clients of it.
type server struct {
	program *exec.Cmd
	log     string
	objects dynamic.Interface
	kinds   *restmapper.DeferredDiscoveryRESTMapper
	warned  *warnings
}

// startServer runs it on loopback. The kernel ends it with this process.
func startServer(dir, program string) (*server, error) {
	arguments, config, err := settings(dir)
	if err != nil {
		return nil, err
	}
	s := &server{log: filepath.Join(dir, "kube-apiserver.log"), warned: new(warnings)}
	config.WarningHandler = s.warned
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.program = exec.Command(program, arguments...)
	s.program.Stdout, s.program.Stderr = log, log
	s.program.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.program.Start(); err != nil {
		return nil, err
	}
	if err := s.connect(config); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// settings are the arguments of a server, with its keys below dir, and a client's
// configuration. The plugins of admission are the default ones.
func settings(dir string) ([]string, *rest.Config, error) {
	ports, err := free(3)
	if err != nil {
		return nil, nil, err
	}
	key, tokens, token := filepath.Join(dir, "accounts.key"), filepath.Join(dir, "tokens.csv"), rand.Text()
	if err := errors.Join(writeKey(key), os.WriteFile(tokens, []byte(token+",operator,1,system:masters\n"), 0o600)); err != nil {
		return nil, nil, err
	}
	_, port, err := net.SplitHostPort(ports[2])
	if err != nil {
		return nil, nil, err
	}
	arguments := []string{
		filepath.Join(dir, "etcd"), ports[0], ports[1],
		"--bind-address", "127.0.0.1", "--secure-port", port, "--cert-dir", filepath.Join(dir, "certs"),
		"--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none", // no pod asks for the server
		"--token-auth-file", tokens, "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--service-cluster-ip-range", "10.0.0.0/16",
	}
	return arguments, &rest.Config{Host: "https://" + ports[2], BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}, nil
}

// connect waits until the server is ready.
func (s *server) connect(config *rest.Config) (err error) {
	if s.objects, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	s.kinds = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = client.RESTClient().Get().AbsPath("/readyz").Do(context.Background()).Error(); err == nil {
			return nil
		}
	}
	log, _ := os.ReadFile(s.log)
	return fmt.Errorf("kube-apiserver is not ready: %w\n%s", err, log[max(0, len(log)-4000):])
}

// stop ends the server and its store. What they hold is in a folder that goes, too.
func (s *server) stop() {
	_ = s.program.Process.Kill()
	_ = s.program.Wait()
}

// warnings keeps what the server adds to answers, such as that a version is deprecated.
// kubectl prints it.
type warnings struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *warnings) HandleWarningHeader(code int, _, text string) {
	if code != 299 || text == "" { // all others are not the server's
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintln(&w.text, text)
}

// take returns the warnings since it was called last.
func (w *warnings) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.text.Reset()
	return w.text.String()
}

func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600)
}

// free are loopback addresses on which no server listens.
func free(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at once, so that they differ
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
