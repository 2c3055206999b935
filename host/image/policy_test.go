// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
)

// TestMain gives the tests a user who has configured nothing: containers/image looks
// once for where the configuration is.
func TestMain(m *testing.M) {
	home, err := os.MkdirTemp("", "wi")
	if err != nil {
		panic(err)
	}
	for name, value := range map[string]string{"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, ".config"), "CONTAINERS_POLICY_JSON": ""} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	_ = os.RemoveAll(home)
	os.Exit(code)
}

// freshHome returns the user's directory of configurations, for a test that runs alone.
func freshHome(t *testing.T) string {
	t.Helper()
	t.Setenv("CONTAINERS_POLICY_JSON", "") // not in a parallel test, says testing
	config := filepath.Join(os.Getenv("HOME"), ".config", "containers")
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(config)) })
	return config
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// TestLoadPolicy: the built-in policy applies where neither the user nor the system has
// one, and only there.
func TestLoadPolicy(t *testing.T) {
	config, root := freshHome(t), t.TempDir()
	p, err := loadPolicy("", root)
	require.NoError(t, err)
	require.Empty(t, p.Path)
	require.Equal(t, "built-in, there is no policy.json: any image needs insecureAcceptAnything", p.String())

	system := writeFile(t, filepath.Join(root, "etc", "containers", "policy.json"), `{"default":[{"type":"reject"}]}`)
	p, err = loadPolicy("", root)
	require.NoError(t, err)
	require.Equal(t, system+": any image needs reject", p.String())

	user := writeFile(t, filepath.Join(config, "policy.json"),
		`{"default":[{"type":"reject"}],"transports":{"docker":{"a.test":[{"type":"insecureAcceptAnything"}]}}}`)
	p, err = loadPolicy("", root)
	require.NoError(t, err)
	require.Equal(t, user+": any image needs reject, but for 1 scopes with rules of their own", p.String())

	named := writeFile(t, filepath.Join(root, "mine.json"), builtIn)
	p, err = loadPolicy(named, root)
	require.NoError(t, err)
	require.Equal(t, named, p.Path)

	_, err = loadPolicy(filepath.Join(root, "none.json"), root)
	require.ErrorIs(t, err, os.ErrNotExist, "a policy that somebody named is no matter of defaults")
	writeFile(t, named, `{"default":[{"type":"rejekt"}]}`)
	_, err = loadPolicy(named, root)
	require.ErrorContains(t, err, named)
}

func TestPolicy(t *testing.T) {
	freshHome(t)
	host := startRegistry(t, nil)
	push(t, host+"/app:v1", testImage(t, runtime.GOARCH, "x"))
	resolve(t, openStore(t), host+"/app:v1")

	for name, tc := range map[string]struct{ policy, text string }{
		"default": {`{"default":[{"type":"reject"}]}`, `scope "default", requirement 1 of 1, reject:`},
		"scope": {`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"` + host + `/app":[{"type":"insecureAcceptAnything"},{"type":"reject"}]}}}`,
			`scope "docker ` + host + `/app", requirement 2 of 2, reject:`},
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), "policy.json"), tc.policy)
		s := openStore(t)
		_, err := s.Resolve(t.Context(), host+"/app:v1", ResolveOptions{PolicyPath: path})
		require.ErrorIs(t, err, ErrPolicy, name)
		require.ErrorContains(t, err, path+", "+tc.text)
		require.Empty(t, files(t, s), "not even a blob arrives")
	}
}

// signer is a key pair in the form of sigstore, with which cosign would sign.
type signer struct {
	key  *ecdsa.PrivateKey
	path string // of the public key
}

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return signer{key, writeFile(t, filepath.Join(t.TempDir(), "cosign.pub"), public)}
}

// sign puts a signature for ref beside the manifest, as `cosign sign` does.
func (s signer) sign(t *testing.T, ref, digest string) {
	t.Helper()
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, ref, digest)
	sum := sha256.Sum256(payload)
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	require.NoError(t, err)
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer:       static.NewLayer(payload, "application/vnd.dev.cosign.simplesigning.v1+json"),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)},
		MediaType:   "application/vnd.dev.cosign.simplesigning.v1+json",
	})
	require.NoError(t, err)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	push(t, ref[:strings.LastIndex(ref, ":")]+":"+strings.Replace(digest, ":", "-", 1)+".sig", img)
}

func digestOf(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	require.NoError(t, err)
	return d.String()
}

// TestSigstore: a signature by the key that the policy names, for this content under this
// name, lets an image in, and nothing else does.
func TestSigstore(t *testing.T) {
	config := freshHome(t)
	attachments := filepath.Join(config, "registries.d", "default.yaml")
	writeFile(t, attachments, "default-docker:\n  use-sigstore-attachments: true\n")
	host := startRegistry(t, nil)
	ours, other := newSigner(t), newSigner(t)
	policy := writeFile(t, filepath.Join(t.TempDir(), "policy.json"),
		`{"default":[{"type":"reject"}],"transports":{"docker":{"`+host+`":[{"type":"sigstoreSigned","keyPath":"`+ours.path+`"}]}}}`)
	o := ResolveOptions{PolicyPath: policy}

	signed := testImage(t, runtime.GOARCH, "signed")
	for _, name := range []string{"signed", "unsigned", "stranger", "moved", "swapped"} {
		push(t, host+"/"+name+":v1", signed)
	}
	digest := digestOf(t, signed)
	ours.sign(t, host+"/signed:v1", digest)
	other.sign(t, host+"/stranger:v1", digest)
	ours.sign(t, host+"/moved:v1", digest)
	push(t, host+"/moved:v2", signed)
	ours.sign(t, host+"/swapped:v1", digest)
	push(t, host+"/swapped:v1", testImage(t, runtime.GOARCH, "other content"))

	s := openStore(t)
	for _, ref := range []string{host + "/signed:v1", host + "/signed@" + digest, host + "/signed:v1@" + digest} {
		img, err := s.Resolve(t.Context(), ref, o)
		require.NoError(t, err, ref)
		require.Equal(t, digest, img.Digest.String())
	}
	scope := `scope "docker ` + host + `", requirement 1 of 1, sigstoreSigned (key ` + ours.path + `): `
	for ref, why := range map[string]string{
		"/unsigned:v1": "no signature exists; signatures beside the image",
		"/stranger:v1": "signature",
		"/moved:v2":    host + "/moved:v1",
		"/swapped:v1":  "no signature exists",
	} {
		s := openStore(t)
		_, err := s.Resolve(t.Context(), host+ref, o)
		require.ErrorIs(t, err, ErrPolicy, ref)
		require.ErrorContains(t, err, scope)
		require.ErrorContains(t, err, why)
		require.Empty(t, files(t, s))
	}
	require.NoError(t, os.Remove(attachments))
	_, err := openStore(t).Resolve(t.Context(), host+"/signed:v1", o)
	require.ErrorContains(t, err, "use-sigstore-attachments", "what to do about it")
}

// TestSigstoreIndex: of an index and the image in it, one signature is enough.
func TestSigstoreIndex(t *testing.T) {
	config := freshHome(t)
	writeFile(t, filepath.Join(config, "registries.d", "default.yaml"), "default-docker:\n  use-sigstore-attachments: true\n")
	host := startRegistry(t, nil)
	key := newSigner(t)
	o := ResolveOptions{PolicyPath: writeFile(t, filepath.Join(t.TempDir(), "policy.json"), `{"default":[{"type":"sigstoreSigned","keyPath":"`+key.path+`"}]}`)}
	child := pushIndex(t, host+"/child:v1", runtime.GOARCH, otherArch())
	_, err := openStore(t).Resolve(t.Context(), host+"/child:v1", o)
	require.ErrorIs(t, err, ErrPolicy)
	key.sign(t, host+"/child:v1", child.String())
	_, err = openStore(t).Resolve(t.Context(), host+"/child:v1", o)
	require.NoError(t, err)

	pushIndex(t, host+"/index:v1", runtime.GOARCH, otherArch())
	key.sign(t, host+"/index:v1", indexDigest(t, host+"/index:v1"))
	_, err = openStore(t).Resolve(t.Context(), host+"/index:v1", o)
	require.NoError(t, err)
}

// TestOtherPolicy: what the store holds was accepted under one policy. Another one is
// asked before the image is used again, under any of its names.
func TestOtherPolicy(t *testing.T) {
	freshHome(t)
	host := startRegistry(t, nil)
	push(t, host+"/app:v1", testImage(t, runtime.GOARCH, "x"))
	s := openStore(t)
	img := resolve(t, s, host+"/app:v1")
	importImage(t, s, "mine", "made here")
	_, err := s.Tag(t.Context(), host+"/app:v1", "tagged")
	require.NoError(t, err)

	reject := writeFile(t, filepath.Join(t.TempDir(), "reject.json"), `{"default":[{"type":"reject"}]}`)
	for _, ref := range []string{host + "/app:v1", img.Digest.String(), "tagged"} {
		for _, local := range []bool{false, true} {
			_, err := s.Resolve(t.Context(), ref, ResolveOptions{PolicyPath: reject, LocalOnly: local})
			require.ErrorIs(t, err, ErrPolicy, ref)
			require.ErrorContains(t, err, reject)
		}
	}
	_, err = s.Resolve(t.Context(), "mine", ResolveOptions{PolicyPath: reject})
	require.NoError(t, err, "the user's own")
	accept := writeFile(t, filepath.Join(t.TempDir(), "accept.json"), `{"default":[{"type":"insecureAcceptAnything"}],"transports":{}}`)
	_, err = s.Resolve(t.Context(), "tagged", ResolveOptions{PolicyPath: accept})
	require.NoError(t, err, "no signature is asked for")
}
