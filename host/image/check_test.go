// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// entry is a file of an image that a test makes.
type entry struct {
	name, body, link string
	kind             byte // 0 is a plain file
	mode             int64
	uid              int
}

func tarOf(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o755
		}
		require.NoError(t, w.WriteHeader(&tar.Header{
			Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Uid: e.uid, Size: int64(len(e.body)),
		}))
		_, err := w.Write([]byte(e.body))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func importTar(t testing.TB, s *Store, name string, cfg Config, entries ...entry) *Image {
	t.Helper()
	img, err := s.ImportRootfs(t.Context(), bytes.NewReader(tarOf(t, entries)), name, "", cfg)
	require.NoError(t, err)
	return img
}

// finding is the text of one finding of a report, and whether it is missing.
func finding(t testing.TB, r *Report, name string) (string, bool) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Name == name {
			return f.Text, f.Missing
		}
	}
	t.Fatalf("no finding %q in %v", name, r.Findings)
	return "", false
}

func check(t testing.TB, img *Image) *Report {
	t.Helper()
	r, err := img.Check(t.Context(), 1, 2)
	require.NoError(t, err)
	return r
}

func TestCheckBaked(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	importTar(t, s, "base", Config{User: "app:staff", WorkingDir: "/srv", Env: []string{"PATH=/opt/bin:/bin"}},
		entry{name: "usr/bin/bash"}, entry{name: "bin", kind: tar.TypeSymlink, link: "usr/bin"}, entry{name: "usr/bin/sh", kind: tar.TypeSymlink, link: "bash"},
		entry{name: "opt/bin/python3"}, entry{name: "usr/bin/apk", mode: 0o644}, entry{name: "usr/bin/pip3", kind: tar.TypeLink, link: "opt/bin/python3"},
		entry{name: "etc/passwd", body: "root:x:0:0::/:/bin/sh\napp:x:5:5::/:/bin/sh\n"}, entry{name: "etc/ssl/cert.pem"},
	)
	g := Guestd{Path: staticBinary(t, hostMachine()), Version: "v1", ProtocolMin: 2, ProtocolMax: 4}
	img, err := s.Bake(t.Context(), "base", "baked", g, ResolveOptions{})
	require.NoError(t, err)
	r := check(t, img)
	require.True(t, r.Fulfilled, r.Findings)
	require.True(t, r.Runs)
	for name, want := range map[string]string{
		"shell": "/bin/bash, /bin/sh", "interpreters": "/opt/bin/python3", "package managers": "/bin/pip3",
		"user": "app:staff", "working directory": "/srv, which is made for the user", "trust store": "/etc/ssl/cert.pem",
		"protocol": "2 to 4 fits this waggle's 1 to 2", "architecture": "linux/" + runtime.GOARCH,
	} {
		got, _ := finding(t, r, name)
		require.Equal(t, want, got, name)
	}
	r, err = img.Check(t.Context(), 5, 6)
	require.NoError(t, err)
	require.Equal(t, []string{"protocol"}, r.Missing())
	text, _ := finding(t, r, "protocol")
	require.Contains(t, text, "2 to 4: this waggle speaks 5 to 6")
}

// TestCheckByContainerfile: what the two lines make is as good as what bake makes.
func TestCheckByContainerfile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "waggle")
	g := Guestd{Path: staticBinary(t, hostMachine()), Version: "v1", ProtocolMin: 1, ProtocolMax: 1}
	labels, err := WriteGuestd(g, runtime.GOARCH, dir)
	require.NoError(t, err)
	var entries []entry
	for _, name := range []string{"guestd", "guestd.json"} {
		body, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		st, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		entries = append(entries, entry{name: "usr/lib/waggle/" + name, body: string(body), mode: int64(st.Mode().Perm())})
	}
	s := openStore(t)
	require.True(t, check(t, importTar(t, s, "copied", Config{Labels: labels}, entries...)).Fulfilled)
	require.Equal(t, []string{"labels"}, check(t, importTar(t, s, "unlabelled", Config{}, entries...)).Missing())
	_, err = WriteGuestd(g, "s390x", dir)
	require.ErrorIs(t, err, ErrArch)
}

// TestCheckWorkdir: a working directory in which the user cannot write is told of, as it
// is no mistake everywhere.
func TestCheckWorkdir(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for name, tc := range map[string]struct {
		user string
		mode int64
		uid  int
		may  bool
	}{
		"root's":         {"app", 0o755, 0, false},
		"their own":      {"app", 0o755, 5, true},
		"read-only":      {"app", 0o555, 5, false},
		"by uid":         {"5", 0o755, 5, true},
		"anybody's":      {"app", 0o777, 0, true},
		"their group's":  {"app", 0o775, 0, true},
		"another group":  {"app:6", 0o775, 0, true}, // still a member of 0
		"no group":       {"other:6", 0o775, 0, false},
		"nobody's":       {"4711", 0o775, 0, true}, // group 0, as container runtimes do
		"sandbox":        {"", 0o755, 1000, true},
		"root is nobody": {"root", 0o755, 0, false},
	} {
		img := importTar(t, s, "workdir", Config{User: tc.user, WorkingDir: "/srv"},
			entry{name: "srv", kind: tar.TypeDir, mode: tc.mode, uid: tc.uid},
			entry{name: "etc/passwd", body: "root:x:0:0::/:/bin/sh\napp:x:5:5::/:/bin/sh\nother:x:7:7::/:/bin/sh\n"},
			entry{name: "etc/group", body: "root:x:0:app\nsix:x:6:\n"})
		text, missing := finding(t, check(t, img), "working directory")
		require.False(t, missing, name)
		require.Equal(t, tc.may, text == "/srv", "%s: %s", name, text)
	}
}

func TestCheckMissing(t *testing.T) {
	t.Parallel()
	binary := func(machine elf.Machine, progs ...elf.ProgType) string {
		b, err := os.ReadFile(staticBinary(t, machine, progs...))
		require.NoError(t, err)
		return string(b)
	}
	good := binary(hostMachine())
	about := func(body string, lowest int) string {
		return `{"version":"v1","protocol_min":` + string(rune('0'+lowest)) + `,"protocol_max":9,"digest":"` + digest.FromString(body).String() + `"}`
	}
	const file, info = "usr/lib/waggle/guestd", "usr/lib/waggle/guestd.json"
	s := openStore(t)
	for name, tc := range map[string]struct {
		entries []entry
		missing string
		text    string // of the first that is missing
	}{
		"nothing":      {[]entry{{name: "a"}}, "guestd guestd.json", "waggle image bake"},
		"no info":      {[]entry{{name: file, body: good}}, "guestd.json", "the host's guestd is used"},
		"not JSON":     {[]entry{{name: file, body: good}, {name: info, body: "{"}}, "guestd.json", "cannot be read"},
		"mode":         {[]entry{{name: file, body: good, mode: 0o700}, {name: info, body: about(good, 1)}}, "guestd labels", "mode 0700"},
		"owner":        {[]entry{{name: file, body: good, uid: 5}, {name: info, body: about(good, 1)}}, "guestd labels", "owner 5:0"},
		"directory":    {[]entry{{name: file, kind: tar.TypeDir}, {name: info, body: about(good, 1)}}, "guestd labels", "no plain file"},
		"other digest": {[]entry{{name: file, body: good}, {name: info, body: about("x", 1)}}, "guestd.json labels", "with the digest"},
		"newer":        {[]entry{{name: file, body: good}, {name: info, body: about(good, 3)}}, "protocol labels", "3 to 9"},
		"dynamic": {[]entry{{name: file, body: binary(hostMachine(), elf.PT_INTERP)}, {name: info, body: about(binary(hostMachine(), elf.PT_INTERP), 1)}},
			"guestd labels", "dynamically"},
		"machine": {[]entry{{name: file, body: binary(elf.EM_S390)}, {name: info, body: about(binary(elf.EM_S390), 1)}}, "guestd labels", "guestd-linux-"},
		"loop":    {[]entry{{name: "usr/lib", kind: tar.TypeSymlink, link: "lib"}}, "guestd guestd.json", "not there"},
	} {
		r := check(t, importTar(t, s, "image", Config{User: "0", WorkingDir: "/"}, tc.entries...))
		require.False(t, r.Fulfilled, name)
		require.True(t, r.Runs, "%s: it is an environment all the same", name)
		require.Equal(t, tc.missing, strings.Join(r.Missing(), " "), name)
		text, _ := finding(t, r, r.Missing()[0])
		require.Contains(t, text, tc.text, name)
		user, _ := finding(t, r, "user")
		require.Contains(t, user, "sandbox", name)
	}
}

// TestTreeLayers: what a layer deletes or covers is not there.
func TestTreeLayers(t *testing.T) {
	t.Parallel()
	tree := &tree{nodes: map[string]node{}, content: map[string][]byte{}}
	s := openStore(t)
	for i, entries := range [][]entry{
		{{name: "a/one"}, {name: "a/two"}, {name: "b/three"}, {name: "c/four", body: "4"}, {name: "./d/five"}, {name: "e/six"}},
		{{name: "a/.wh.one"}, {name: "b/.wh..wh..opq"}, {name: "b/new"}, {name: "../c/four", body: "IV"}, {name: "d"}, {name: ".wh.e"}},
	} {
		img := importTar(t, s, "layer", Config{}, entries...)
		require.NoError(t, tree.lay(t.Context(), img.Layers[0], map[string]int64{"c/four": 10}), i)
	}
	var names []string
	for name := range tree.nodes {
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{"a/two", "b/new", "c/four", "d"}, names)
	require.Equal(t, "IV", string(tree.content["c/four"]))
}
