package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// patience is how long a program may take to start.
const patience = 2 * time.Minute

// A server is a kube-apiserver with its etcd, and clients of it.
type server struct {
	programs []*exec.Cmd
	logs     []string
	objects  dynamic.Interface
	kinds    *restmapper.DeferredDiscoveryRESTMapper
	http     *rest.Config
}

// findEtcd is ETCD=, or the one that .ci/fetch fetches.
func findEtcd() (string, error) {
	if named := os.Getenv("ETCD"); named != "" {
		return named, nil
	}
	if out, err := exec.Command(root+"/.ci/fetch", "etcd").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return filepath.Join(root, ".tools/bin/etcd"), nil
}

// startServer runs both on loopback.
func startServer(dir, program string) (*server, error) {
	etcd, err := findEtcd()
	if err != nil {
		return nil, err
	}
	ports, err := free(3)
	if err != nil {
		return nil, err
	}
	s := new(server)
	store := "http://" + ports[0]
	if err := s.run(dir, "etcd", etcd, "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", store, "--advertise-client-urls", store,
		"--listen-peer-urls", "http://"+ports[1], "--unsafe-no-fsync"); err != nil {
		return nil, err
	}
	key, token := filepath.Join(dir, "accounts.key"), rand.Text()
	if err := writeKey(key); err != nil {
		return nil, err
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",operator,1,system:masters\n"), 0o600); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(ports[2])
	err = s.run(dir, "kube-apiserver", program, "--etcd-servers", store, "--bind-address", "127.0.0.1", "--secure-port", port,
		"--cert-dir", filepath.Join(dir, "certs"), "--token-auth-file", tokens, "--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--service-cluster-ip-range", "10.0.0.0/16",
		// No controller makes the account "default" of a namespace.
		"--disable-admission-plugins", "ServiceAccount")
	if err != nil {
		s.stop()
		return nil, err
	}
	s.http = &rest.Config{Host: "https://" + ports[2], BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
	if err := s.connect(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// run starts a program, which the kernel ends with this process.
func (s *server) run(dir, name, program string, arguments ...string) error {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(program, arguments...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.programs, s.logs = append(s.programs, command), append(s.logs, log.Name())
	return nil
}

// connect waits until the server is ready.
func (s *server) connect() (err error) {
	if s.objects, err = dynamic.NewForConfig(s.http); err != nil {
		return err
	}
	client, err := discovery.NewDiscoveryClientForConfig(s.http)
	if err != nil {
		return err
	}
	s.kinds = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = client.RESTClient().Get().AbsPath("/readyz").Do(context.Background()).Error(); err == nil {
			return nil
		}
	}
	log, _ := os.ReadFile(s.logs[len(s.logs)-1])
	return fmt.Errorf("kube-apiserver is not ready: %w\n%s", err, log[max(0, len(log)-4000):])
}

// stop ends the programs, the store last.
func (s *server) stop() {
	for i := len(s.programs) - 1; i >= 0; i-- {
		_ = s.programs[i].Process.Kill() // what they hold is in a folder that goes, too
		_ = s.programs[i].Wait()
	}
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
