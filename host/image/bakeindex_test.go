// SPDX-License-Identifier: Apache-2.0

package image

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/require"
)

// pushArches pushes an index with an image for each architecture.
func pushArches(t testing.TB, ref string, arches ...string) {
	t.Helper()
	idx := mutate.IndexMediaType(empty.Index, "application/vnd.oci.image.index.v1+json")
	for _, arch := range arches {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{
			Add:        testImage(t, arch, "for "+arch, "all"),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	tag, err := name.NewTag(ref, name.Insecure)
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(tag, idx))
}

// guestds finds a guestd for each of the architectures.
func guestds(t testing.TB, arches ...string) FindGuestd {
	t.Helper()
	paths := map[string]string{}
	for _, arch := range arches {
		paths[arch] = staticBinary(t, machines[arch], elf.PT_LOAD)
	}
	return func(arch string) (Guestd, error) {
		if paths[arch] == "" {
			return Guestd{}, errors.New("no guestd-linux-" + arch)
		}
		return Guestd{Path: paths[arch], Version: "v1", ProtocolMin: 1, ProtocolMax: 1}, nil
	}
}

// TestBakeTo writes an index to every place that can hold one, and reads it back.
func TestBakeTo(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	pushArches(t, host+"/app:v1", "amd64", "arm64", "s390x")
	find := guestds(t, "amd64", "arm64")
	dir := t.TempDir()
	var digests []string
	for _, dst := range []string{
		"oci:" + dir + "/layout:app", "oci:" + dir + "/layout:again", "oci-archive:" + dir + "/app.tar",
		"dir:" + dir + "/dir", "docker://" + host + "/team/app:baked",
	} {
		s := openStore(t)
		out, err := s.BakeTo(t.Context(), "docker://"+host+"/app:v1", dst, nil, find, ResolveOptions{})
		require.NoError(t, err, dst)
		require.Equal(t, []string{"amd64", "arm64"}, out.Arches)
		require.Equal(t, []string{"linux/s390x"}, out.LeftOut)
		digests = append(digests, out.Digest.String())
		require.Empty(t, strings.Join(files(t, s), "\n")[len("index.json"):], "nothing is left in the store")
		for _, arch := range out.Arches {
			img, err := openStore(t).Resolve(t.Context(), dst, ResolveOptions{Arch: arch})
			require.NoError(t, err, dst)
			require.Equal(t, arch, img.Arch)
			require.Equal(t, "1-1", img.Config.Labels[LabelProtocol])
			require.Equal(t, "for "+arch, readLayers(t, img)["f0"])
			require.Equal(t, "worker", img.Config.User)
		}
	}
	for _, d := range digests {
		require.Equal(t, digests[0], d, "the same inputs, the same digest, wherever it goes")
	}
}

func TestBakeToDockerArchive(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	pushArches(t, host+"/app:v1", "amd64", "arm64")
	find := guestds(t, "amd64", "arm64")
	s := openStore(t)
	dst := "docker-archive:" + t.TempDir() + "/app.tar:team/app:v1"
	_, err := s.BakeTo(t.Context(), "docker://"+host+"/app:v1", dst, nil, find, ResolveOptions{})
	require.ErrorIs(t, err, ErrArch)
	require.ErrorContains(t, err, "--arch")
	_, err = s.BakeTo(t.Context(), "docker://"+host+"/app:v1", dst, []string{"arm64"}, find, ResolveOptions{})
	require.NoError(t, err)
	img, err := s.Resolve(t.Context(), dst, ResolveOptions{Arch: "arm64"})
	require.NoError(t, err)
	require.Equal(t, "for arm64", readLayers(t, img)["f0"])
	require.Contains(t, readLayers(t, img), GuestdPath[1:])
}

func TestBakeToRefused(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	pushArches(t, host+"/app:v1", "amd64", "arm64")
	pushArches(t, host+"/big:v1", "s390x", "ppc64le")
	s := openStore(t)
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		src, dst string
		arches   []string
		want     error
		text     string
	}{
		"no guestd":       {"docker://" + host + "/app:v1", "oci:" + dir + "/a", nil, ErrGuestd, "for arm64: no guestd-linux-arm64; or choose the others with --arch"},
		"not for us":      {"docker://" + host + "/big:v1", "oci:" + dir + "/b", nil, ErrArch, "linux/s390x"},
		"not in it":       {"docker://" + host + "/app:v1", "oci:" + dir + "/c", []string{"s390x"}, ErrGuestd, "s390x"},
		"no source":       {"docker://" + host + "/none:v1", "oci:" + dir + "/d", nil, ErrNotFound, "none"},
		"no own source":   {"waggle/none", "oci:" + dir + "/e", nil, ErrNotFound, "task images"},
		"bad destination": {"docker://" + host + "/app:v1", "docker://A B", nil, ErrReference, "A B"},
	} {
		_, err := s.BakeTo(t.Context(), tc.src, tc.dst, tc.arches, guestds(t, "amd64"), ResolveOptions{})
		require.ErrorIs(t, err, tc.want, name)
		require.ErrorContains(t, err, tc.text, name)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestBakeToFromStore: an image of the store that has the source's name for this
// machine stays what it is.
func TestBakeToFromStore(t *testing.T) {
	t.Parallel()
	host := startRegistry(t, nil)
	pushArches(t, host+"/app:v1", "amd64", "arm64")
	s := openStore(t)
	before := resolve(t, s, host+"/app:v1")
	dst := "oci:" + t.TempDir() + "/out"
	out, err := s.BakeTo(t.Context(), host+"/app:v1", dst, nil, guestds(t, "amd64", "arm64"), ResolveOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{runtime.GOARCH}, out.Arches, "by a name of the store it is what the store has")
	_, err = s.BakeTo(t.Context(), host+"/app:v1", dst, []string{otherArch()}, guestds(t, "amd64", "arm64"), ResolveOptions{})
	require.NoError(t, err)
	require.Equal(t, before.Digest, resolve(t, s, host+"/app:v1").Digest)
}

// TestSkopeoReads: another tool than containers/image's own reader, as old as Debian's
// is, takes what bake wrote.
func TestSkopeoReads(t *testing.T) {
	t.Parallel()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		const remedy = "skopeo is not installed: run `apt-get install -y --no-install-recommends skopeo`"
		if strings.Contains(os.Getenv("WAGGLE_TEST_REQUIRE"), "skopeo") {
			t.Fatal(remedy)
		}
		t.Skip(remedy)
	}
	host := startRegistry(t, nil)
	pushArches(t, host+"/app:v1", "amd64", "arm64")
	dir := t.TempDir()
	run := func(args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), skopeo, args...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("skopeo %v: %s", args, exit.Stderr)
		}
		require.NoError(t, err)
		return out
	}
	for _, dst := range []string{
		"oci:" + dir + "/layout:app", "oci-archive:" + dir + "/app.tar", "dir:" + dir + "/dir", "docker-archive:" + dir + "/docker.tar:app:v1",
	} {
		out, err := openStore(t).BakeTo(t.Context(), "docker://"+host+"/app:v1", dst, []string{"arm64"}, guestds(t, "arm64"), ResolveOptions{})
		require.NoError(t, err)
		src := strings.TrimSuffix(dst, ":app:v1")
		var seen struct {
			Digest, Architecture string
			Labels               map[string]string
			Layers               []string
		}
		require.NoError(t, json.Unmarshal(run("inspect", src), &seen))
		require.Equal(t, "arm64", seen.Architecture)
		require.Equal(t, "1-1", seen.Labels[LabelProtocol])
		require.Len(t, seen.Layers, 3)
		if src == dst {
			require.Equal(t, out.Digest.String(), seen.Digest)
		}
		run("--insecure-policy", "copy", src, "dir:"+filepath.Join(dir, "copy"))
	}
}
