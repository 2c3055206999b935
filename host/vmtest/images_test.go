// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// file is one file of an image that a test makes: a link where it has a target, a
// directory where its name ends in a slash.
type file struct {
	name, target, body string
}

// passwd knows one user besides root.
var passwd = []file{
	{name: "etc/passwd", body: "root:x:0:0:root:/root:/bin/sh\napp:x:101:102::/home/app:/bin/sh\n"},
	{name: "etc/group", body: "root:x:0:\napp:x:102:\nstaff:x:50:\n"},
}

// importImage makes an image of files and names it.
func importImage(t *testing.T, in *Installation, name string, flags []string, files ...file) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.tar")
	out, err := os.Create(path)
	require.NoError(t, err)
	w := tar.NewWriter(out)
	for _, f := range files {
		hdr := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.body)), Typeflag: tar.TypeReg}
		switch {
		case f.target != "":
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, f.target
		case strings.HasSuffix(f.name, "/"):
			hdr.Typeflag = tar.TypeDir
		}
		require.NoError(t, w.WriteHeader(hdr))
		_, err := w.Write([]byte(f.body))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, out.Close())
	in.Command(t, append(append([]string{"image", "import"}, flags...), path, name)...)
}

// busybox is a root file system of Debian's static busybox, by the names given, in
// dir.
func busybox(t *testing.T, dir string, names ...string) []file {
	t.Helper()
	work := t.TempDir()
	fetch := exec.CommandContext(t.Context(), "apt-get", "download", "-q", "busybox-static")
	fetch.Dir = work
	out, err := fetch.CombinedOutput()
	require.NoError(t, err, "%s", out)
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	require.NoError(t, err)
	require.Len(t, debs, 1)
	run(t, "dpkg-deb", "-x", debs[0], work)
	body, err := os.ReadFile(filepath.Join(work, "bin", "busybox"))
	require.NoError(t, err)
	files := []file{{name: dir + "/busybox", body: string(body)}}
	for _, name := range names {
		files = append(files, file{name: dir + "/" + name, target: "busybox"})
	}
	return files
}

// program is a static one, of Go.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", path, "github.com/stacklok/waggle/cmd/waggle/testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	body, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(body)
}

// made is what create_environment says of an environment of an image.
type made struct {
	ID        string   `json:"environment_id"`
	Runtime   string   `json:"runtime"`
	Image     string   `json:"image"`
	Digest    string   `json:"image_digest"`
	Origin    string   `json:"guestd_origin"`
	Note      string   `json:"guestd_note"`
	User      string   `json:"user"`
	Dir       string   `json:"working_dir"`
	Languages []string `json:"languages"`
	Managers  []string `json:"package_managers"`
}

// ofImages is an installation whose store has nothing yet, and the kernel of in.
func ofImages(t *testing.T, in *Installation) *Installation {
	t.Helper()
	data, err := os.MkdirTemp("", "wi")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(data)) })
	require.NoError(t, os.Symlink(filepath.Join(in.Data, "kernel"), filepath.Join(data, "kernel")))
	own := *in
	own.Data = data
	return &own
}

// TestImages: images of every kind become environments, as they are. One machine runs
// at a time.
func TestImages(t *testing.T) {
	in := Install(t)
	own := ofImages(t, in)
	app := program(t)
	importImage(t, own, "team/busybox", []string{"--user=app:staff", "--workdir=/work/dir", "--env=A=1", "--env=PATH=/opt/bin"},
		append(busybox(t, "opt/bin", "sh", "id", "pwd", "cat"), append(passwd, file{name: "bin/sh", target: "/opt/bin/busybox"})...)...)
	importImage(t, own, "team/distroless", []string{"--user=65532:65532", "--workdir=/srv"},
		file{name: "etc/passwd", body: "root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n"},
		file{name: "srv/"}, file{name: "app", body: app})
	importImage(t, own, "team/scratch", []string{"--user=4711"}, file{name: "tiny", body: app})
	importImage(t, own, "team/newer", nil, file{name: "app", body: app}, file{name: "usr/lib/waggle/guestd", body: app},
		file{name: "usr/lib/waggle/guestd.json", body: `{"version":"v99","protocol_min":98,"protocol_max":99,"digest":"x"}`})
	own.Settings = []string{"WAGGLE_RUNTIME_TINY_IMAGE=team/scratch", "WAGGLE_RUNTIME_TINY_EXEC_COMMAND=/tiny show"}
	c := own.Serve(t).Connect(t)
	create := func(t *testing.T, args map[string]any) (m made, with func(map[string]any) map[string]any) {
		t.Helper()
		c.Call(t, "create_environment", args, &m)
		return m, func(more map[string]any) map[string]any { more["environment_id"] = m.ID; return more }
	}
	t.Run("busybox", func(t *testing.T) {
		m, with := create(t, map[string]any{"image": "team/busybox"})
		require.Equal(t, "team/busybox:latest", m.Image)
		require.Contains(t, m.Digest, "sha256:")
		require.Equal(t, made{ID: m.ID, Image: m.Image, Digest: m.Digest, Origin: "host", User: "app", Dir: "/work/dir", Languages: []string{"shell"}}, m)
		var ran executed
		c.Call(t, "execute", with(map[string]any{"code": "id -un; id -gn; pwd; echo $A; echo >made $HOME; cat made"}), &ran)
		require.Equal(t, "app\nstaff\n/work/dir\n1\n/home/app\n", ran.Stdout, ran.Stderr)
		why := c.Refused(t, "execute", with(map[string]any{"code": "1", "language": "python"}))
		require.Contains(t, why, "needs python3 or python")
		require.Contains(t, c.Refused(t, "install_packages", with(map[string]any{"packages": "six"})), "no package manager")
		var list struct{ Path string }
		c.Call(t, "list_files", with(map[string]any{}), &list)
		require.Equal(t, "/work/dir", list.Path)
		// It has no store of certificates: the host's are one file, of each machine.
		require.Contains(t, own.Command(t, "cat", m.ID+":/etc/ssl/certs/ca-certificates.crt"), "-----BEGIN CERTIFICATE-----")
		require.Equal(t, "waggle.crt\n", own.Command(t, "ls", m.ID+":/usr/local/share/ca-certificates"))
		own.Command(t, "exec", m.ID, "--", "/opt/bin/busybox", "sync")
		used := diskUse(t, filepath.Join(own.Data, "scratch"))
		t.Logf("the machine's own disk takes %d KiB", used>>10)
		require.Less(t, used, int64(nextEnvironment))
		own.Command(t, "rm", m.ID)
	})
	t.Run("distroless", func(t *testing.T) {
		m, with := create(t, map[string]any{"image": "team/distroless"})
		require.Equal(t, "nonroot", m.User)
		require.Empty(t, m.Languages)
		why := c.Refused(t, "execute", with(map[string]any{"code": "echo"}))
		require.Contains(t, why, "waggle exec "+m.ID)
		require.Contains(t, c.Refused(t, "execute", with(map[string]any{"code": "echo", "language": "shell"})), "needs bash or sh or ash")
		require.Equal(t, "hi\n", own.Command(t, "exec", m.ID, "--", "/app", "say", "hi"))
		var discard map[string]any
		c.Call(t, "write_file", with(map[string]any{"path": "/tmp/in", "content": "read me"}), &discard)
		require.Equal(t, "read me", own.Command(t, "exec", m.ID, "--", "/app", "show", "/tmp/in"))
		own.Command(t, "rm", m.ID)
	})
	t.Run("scratch as a runtime by configuration", func(t *testing.T) {
		m, with := create(t, map[string]any{"runtime": "tiny"})
		require.Equal(t, "tiny", m.Runtime)
		require.Equal(t, []string{"tiny"}, m.Languages)
		require.Equal(t, "sandbox", m.User, "the uid gets a name")
		var ran executed
		c.Call(t, "execute", with(map[string]any{"code": "the code itself"}), &ran)
		require.Equal(t, "the code itself", ran.Stdout, ran.Stderr)
		require.Contains(t, own.Command(t, "exec", m.ID, "--", "/tiny", "show", "/proc/self/status"), "Uid:\t4711")
		own.Command(t, "rm", m.ID)
	})
	t.Run("a guestd of another protocol", func(t *testing.T) {
		m, _ := create(t, map[string]any{"image": "team/newer"})
		require.Equal(t, "host", m.Origin)
		require.Contains(t, m.Note, "speaks protocol 98 to 99")
		own.Command(t, "rm", m.ID)
		cmd := exec.CommandContext(t.Context(), own.Waggle, "run", "--guestd=baked", "team/newer", "--", "/app", "say", "no")
		own.prepare(cmd)
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "speaks protocol 98 to 99")
	})
	t.Run("a file of the host", func(t *testing.T) {
		require.Contains(t, c.Refused(t, "create_environment", map[string]any{"image": "oci:/srv/images"}), "the person who runs the server")
	})
}

// TestBakedImage: Debian's python image, written to an archive and taken from there
// into another store, brings its guestd along.
func TestBakedImage(t *testing.T) {
	in := Install(t)
	own := ofImages(t, in)
	archive := "oci-archive:" + filepath.Join(t.TempDir(), "python.tar")
	in.Command(t, "image", "bake", "waggle/python", archive)
	own.Command(t, "image", "bake", archive, "team/python")
	require.Contains(t, own.Command(t, "image", "check", "team/python"), "/usr/bin/python3")
	own.Settings = []string{"WAGGLE_GUESTD=baked"}
	c := own.Serve(t).Connect(t)
	var m made
	c.Call(t, "create_environment", map[string]any{"image": "team/python"}, &m)
	require.Equal(t, "image", m.Origin)
	require.Equal(t, []string{"python", "shell"}, m.Languages)
	require.Equal(t, []string{"pip", "apt"}, m.Managers)
	var ran executed
	c.Call(t, "execute", map[string]any{"environment_id": m.ID, "code": "import os; print(os.getcwd(), os.getuid())"}, &ran)
	require.Equal(t, m.Dir+" 1000\n", ran.Stdout)
}
