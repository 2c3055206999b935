// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

// pullLimit is far beyond what a pull takes here.
const pullLimit = time.Minute

// registryProgram builds the distribution registry, once.
var registryProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "wreg")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	path := filepath.Join(dir, "registry")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, ".")
	build.Dir = filepath.Join("testdata", "registry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.New(string(out))
	}
	return os.ReadFile(path)
})

// startRegistry starts one that knows a user, and returns its address. Without more
// arguments it takes the password itself.
func startRegistry(t *testing.T, args ...string) string {
	t.Helper()
	program, err := registryProgram()
	require.NoError(t, err)
	dir := t.TempDir()
	path := filepath.Join(dir, "registry")
	require.NoError(t, os.WriteFile(path, program, 0o700))
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	users := filepath.Join(dir, "htpasswd")
	require.NoError(t, os.WriteFile(users, fmt.Appendf(nil, "user:%s\n", hash), 0o600))
	config := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {inmemory: {}}
http: {addr: "127.0.0.1:0", relativeurls: true, secret: test}
auth: {htpasswd: {realm: test, path: %s}}
`, users), 0o600))
	cmd := exec.CommandContext(t.Context(), path, append([]string{config}, args...)...)
	cmd.Env = []string{"HOME=" + dir, "OTEL_TRACES_EXPORTER=none"}
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(addr)
}

// front stands before a registry and changes what it says.
type front struct {
	*httptest.Server
	disturb func(w http.ResponseWriter, r *http.Request, body func() []byte) bool // nil: nothing

	mu    sync.Mutex
	paths []string // of what was asked for
}

func (f *front) host() string { return f.Listener.Addr().String() }

// newFront serves registry, over TLS with a certificate of its own or without.
func newFront(t *testing.T, registry string, tls bool) *front {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	f := &front{}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.paths = append(f.paths, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		whole := func() []byte {
			rec := httptest.NewRecorder()
			proxy.ServeHTTP(rec, r)
			return rec.Body.Bytes()
		}
		if f.disturb == nil || !f.disturb(w, r, whole) {
			proxy.ServeHTTP(w, r)
		}
	}))
	if tls {
		f.StartTLS()
	} else {
		f.Start()
	}
	t.Cleanup(f.Close)
	return f
}

// upload pushes an image, or an index, to the registry itself.
func upload(t *testing.T, ref string, what remote.Taggable) {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	require.NoError(t, err)
	login := remote.WithAuth(&authn.Basic{Username: "user", Password: "secret"})
	switch x := what.(type) {
	case v1.Image:
		err = remote.Write(tag, x, login)
	case v1.ImageIndex:
		err = remote.WriteIndex(tag, x, login)
	}
	require.NoError(t, err)
}

// newImage has one layer of 3 MiB that does not compress.
func newImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	img, err := random.Image(3<<20, 1)
	require.NoError(t, err)
	cfg, err := img.ConfigFile()
	require.NoError(t, err)
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", arch
	img, err = mutate.ConfigFile(img, cfg)
	require.NoError(t, err)
	return img
}

func otherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

func digestOf(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	require.NoError(t, err)
	return d.String()
}

// person runs waggle with a home of their own.
type person struct {
	t    *testing.T
	home string
	env  []string
	dir  string // where they are; "" is where the test is
}

func newPerson(t *testing.T) *person {
	t.Helper()
	return &person{t: t, home: t.TempDir()}
}

// write writes a file below ~/.config/containers.
func (p *person) write(path, text string) string {
	p.t.Helper()
	path = filepath.Join(p.home, ".config", "containers", path)
	require.NoError(p.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(p.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (p *person) waggle(args ...string) (stdout, stderr string, err error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), pullLimit)
	defer cancel()
	exe, err := os.Executable()
	require.NoError(p.t, err)
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Dir = p.dir
	cmd.Env = append([]string{
		asWaggle + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + p.home,
		"WAGGLE_DATA_DIR=" + filepath.Join(p.home, "data"), "WAGGLE_RUN_DIR=" + filepath.Join(p.home, "run"),
	}, p.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (p *person) pull(ref string) string {
	p.t.Helper()
	out, errs, err := p.waggle("image", "pull", "--quiet", ref)
	require.NoError(p.t, err, errs)
	return strings.TrimSpace(out)
}

// refused pulls what cannot be pulled, and returns what is said.
func (p *person) refused(ref string) string {
	p.t.Helper()
	out, errs, err := p.waggle("image", "pull", ref)
	var exit *exec.ExitError
	require.ErrorAs(p.t, err, &exit, "%s%s", out, errs)
	require.Equal(p.t, exitFailure, exit.ExitCode())
	list, _, err := p.waggle("image", "ls", "--json")
	require.NoError(p.t, err)
	require.JSONEq(p.t, "[]", list)
	return errs
}

const credentials = `{"auths":{"%s":{"auth":"dXNlcjpzZWNyZXQ="}}}` // user:secret

// TestRegistry pulls with the whole program from a real registry, set up as a person sets
// up podman.
func TestRegistry(t *testing.T) {
	t.Parallel()
	registry := startRegistry(t)
	img := newImage(t, runtime.GOARCH)
	digest := digestOf(t, img)
	upload(t, registry+"/team/app:v1", img)
	layers, err := img.Layers()
	require.NoError(t, err)
	layer, err := layers[0].Digest()
	require.NoError(t, err)
	plain := newFront(t, registry, false)

	t.Run("login and CA", func(t *testing.T) {
		t.Parallel()
		secure := newFront(t, registry, true)
		p := newPerson(t)
		p.write("registries.conf", fmt.Sprintf("[[registry]]\nprefix=%q\nlocation=%q\n", "registry.invalid", secure.host()))
		require.Contains(t, p.refused("registry.invalid/team/app:v1"), "x509")
		p.write("certs.d/"+secure.host()+"/ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
		require.Contains(t, p.refused("registry.invalid/team/app:v1"), "needs a login")
		p.env = []string{"WAGGLE_AUTH_FILE=" + p.write("elsewhere.json", fmt.Sprintf(credentials, secure.host()))}
		require.Equal(t, digest, p.pull("registry.invalid/team/app:v1"))
	})
	t.Run("files of docker, digest", func(t *testing.T) {
		t.Parallel()
		p := newPerson(t)
		require.NoError(t, os.Mkdir(filepath.Join(p.home, ".docker"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(p.home, ".docker", "config.json"), fmt.Appendf(nil, credentials, registry), 0o600))
		moved := newImage(t, runtime.GOARCH)
		upload(t, registry+"/team/moving:v1", img)
		upload(t, registry+"/team/moving:v1", moved)
		require.Equal(t, digestOf(t, moved), p.pull(registry+"/team/moving:v1"))
		require.Equal(t, digest, p.pull(registry+"/team/moving:v1@"+digest), "the tag says nothing more")
		out, _, err := p.waggle("image", "inspect", registry+"/team/moving@"+digest)
		require.NoError(t, err)
		var shown []struct{ Digest string }
		require.NoError(t, json.Unmarshal([]byte(out), &shown))
		require.Equal(t, digest, shown[0].Digest)
	})
	t.Run("mirror", func(t *testing.T) {
		t.Parallel()
		mirror := newFront(t, registry, false)
		p := newPerson(t)
		p.write("registries.conf", fmt.Sprintf("[[registry]]\nlocation=%q\n[[registry.mirror]]\nlocation=%q\ninsecure=true\n", "registry.invalid", mirror.host()))
		p.env = []string{"WAGGLE_AUTH_FILE=" + p.write("auth.json", fmt.Sprintf(credentials, mirror.host()))}
		require.Equal(t, digest, p.pull("registry.invalid/team/app:v1"))
		require.Contains(t, mirror.paths, "GET /v2/team/app/manifests/v1")
	})
	t.Run("proxy", func(t *testing.T) {
		t.Parallel()
		proxy := newFront(t, registry, false)
		p := newPerson(t)
		p.write("registries.conf", "[[registry]]\nlocation=\"registry.invalid\"\ninsecure=true\n")
		p.env = []string{
			"http_proxy=" + proxy.URL, // https fails at the name and is not needed
			"WAGGLE_AUTH_FILE=" + p.write("auth.json", fmt.Sprintf(credentials, "registry.invalid")),
		}
		require.Equal(t, digest, p.pull("registry.invalid/team/app:v1"))
		require.Contains(t, proxy.paths, "GET /v2/team/app/manifests/v1")
	})
	t.Run("cut", func(t *testing.T) {
		t.Parallel()
		f := newFront(t, registry, false)
		var mu sync.Mutex
		var ranges []string
		f.disturb = func(w http.ResponseWriter, r *http.Request, whole func() []byte) bool {
			if !strings.HasSuffix(r.URL.Path, "/blobs/"+layer.String()) || r.Header.Get("Authorization") == "" {
				return false
			}
			mu.Lock()
			ranges = append(ranges, r.Header.Get("Range"))
			first := len(ranges) == 1
			mu.Unlock()
			if first {
				body := whole()
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				_, _ = w.Write(body[:2<<20])
				panic(http.ErrAbortHandler)
			}
			return false
		}
		p := newPerson(t)
		p.env = []string{"WAGGLE_AUTH_FILE=" + p.write("auth.json", fmt.Sprintf(credentials, f.host()))}
		require.Equal(t, digest, p.pull(f.host()+"/team/app:v1"))
		require.Equal(t, []string{"", fmt.Sprintf("bytes=%d-", 2<<20)}, ranges, "it goes on where it was cut")
	})
	t.Run("wrong digest", func(t *testing.T) {
		t.Parallel()
		f := newFront(t, registry, false)
		f.disturb = func(w http.ResponseWriter, r *http.Request, whole func() []byte) bool {
			if !strings.HasSuffix(r.URL.Path, "/blobs/"+layer.String()) || r.Header.Get("Authorization") == "" {
				return false
			}
			body := whole()
			body[len(body)/2] ^= 1
			_, _ = w.Write(body)
			return true
		}
		p := newPerson(t)
		p.env = []string{"WAGGLE_AUTH_FILE=" + p.write("auth.json", fmt.Sprintf(credentials, f.host()))}
		require.Contains(t, p.refused(f.host()+"/team/app:v1"), layer.String()+" arrived as")
	})
	t.Run("architecture", func(t *testing.T) {
		t.Parallel()
		idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
			Add: newImage(t, otherArch()), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: otherArch()}},
		})
		upload(t, registry+"/team/other:v1", idx)
		p := newPerson(t)
		p.env = []string{"WAGGLE_AUTH_FILE=" + p.write("auth.json", fmt.Sprintf(credentials, plain.host()))}
		require.Contains(t, p.refused(plain.host()+"/team/other:v1"), "this host runs linux/"+runtime.GOARCH)
	})
	t.Run("policy", func(t *testing.T) {
		t.Parallel()
		p := newPerson(t)
		policy := p.write("mine.json", `{"default":[{"type":"reject"}]}`)
		p.env = []string{
			"WAGGLE_AUTH_FILE=" + p.write("auth.json", fmt.Sprintf(credentials, plain.host())),
			"WAGGLE_IMAGE_POLICY=" + policy,
		}
		require.Contains(t, p.refused(plain.host()+"/team/app:v1"), policy+`, scope "default", requirement 1 of 1, reject`)
		require.NoDirExists(t, filepath.Join(p.home, "data", "disks"))
		p.env = p.env[:1]
		require.Equal(t, digest, p.pull(plain.host()+"/team/app:v1"))
	})
}
