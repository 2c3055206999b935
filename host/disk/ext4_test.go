// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// file is one entry of a test layer. The zero type is a regular file.
type file struct {
	tar.Header
	body string
}

func reg(name, body string) file { return file{tar.Header{Name: name}, body} }
func dir(name string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func hard(name, target string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, ""}
}

func sym(name, target string) file {
	return file{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}, ""}
}

// makeTar writes the files as an uncompressed layer.
func makeTar(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		hdr := f.Header
		if hdr.Typeflag == 0 {
			hdr.Typeflag, hdr.Size = tar.TypeReg, int64(len(f.body))
		}
		if hdr.Mode == 0 {
			hdr.Mode = 0o644
		}
		require.NoError(t, w.WriteHeader(&hdr))
		_, err := io.WriteString(w, f.body)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func layersOf(tars ...[]byte) []Layer {
	var out []Layer
	for _, b := range tars {
		out = append(out, Layer{Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b)), nil
		}})
	}
	return out
}

func openCache(t testing.TB, limits Limits) *Cache {
	t.Helper()
	c, err := Open(t.TempDir(), limits)
	require.NoError(t, err)
	return c
}

// build makes the disk of the layers and has e2fsck look at it.
func build(t testing.TB, layers ...[]byte) ext4 {
	t.Helper()
	key := digest.FromBytes(bytes.Join(layers, nil))
	path, err := openCache(t, Limits{}).Root(t.Context(), key, layersOf(layers...), nil)
	require.NoError(t, err)
	img := ext4{t, path}
	img.check()
	return img
}

// ext4 reads a file system image back with e2fsprogs, without mounting it.
type ext4 struct {
	t    testing.TB
	path string
}

func tool(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path, err := exec.LookPath(filepath.Join("/usr/sbin", name))
	require.NoError(t, err, "the tests need e2fsprogs: apt-get install e2fsprogs")
	return path
}

func (x ext4) check() {
	x.t.Helper()
	out, err := exec.Command(tool(x.t, "e2fsck"), "-fn", x.path).CombinedOutput()
	require.NoError(x.t, err, "e2fsck: %s", out)
}

func (x ext4) debugfs(command string) string {
	x.t.Helper()
	out, err := exec.Command(tool(x.t, "debugfs"), "-R", command, x.path).Output()
	require.NoError(x.t, err, "debugfs %s", command)
	return string(out)
}

type inode struct {
	typ, mode, uid, gid, links, number, target, device string
}

var statFields = map[string]*regexp.Regexp{
	"number": regexp.MustCompile(`Inode: (\d+)`), "typ": regexp.MustCompile(`Type: (\S+)`),
	"mode": regexp.MustCompile(`Mode: +(\d+)`), "uid": regexp.MustCompile(`User: +(\d+)`),
	"gid": regexp.MustCompile(`Group: +(\d+)`), "links": regexp.MustCompile(`Links: (\d+)`),
	"target": regexp.MustCompile(`Fast link dest: "(.*)"`),
	"device": regexp.MustCompile(`Device major/minor number: (\d+:\d+)`),
}

// stat returns the inode under a name, following nothing, and false when there
// is none.
func (x ext4) stat(name string) (inode, bool) {
	x.t.Helper()
	out := x.debugfs(fmt.Sprintf("stat %q", "/"+name))
	field := func(key string) string {
		if m := statFields[key].FindStringSubmatch(out); m != nil {
			return m[1]
		}
		return ""
	}
	n := inode{
		typ: field("typ"), mode: field("mode"), uid: field("uid"), gid: field("gid"),
		links: field("links"), number: field("number"), target: field("target"), device: field("device"),
	}
	return n, n.number != ""
}

// describe is what a table of expectations compares: "-" for nothing, "dir",
// "sym TARGET", "file CONTENT", or the type's name.
func (x ext4) describe(name string) string {
	x.t.Helper()
	n, ok := x.stat(name)
	switch {
	case !ok:
		return "-"
	case n.typ == "directory":
		return "dir"
	case n.typ == "symlink":
		return "sym " + n.target
	case n.typ == "regular":
		return "file " + x.debugfs(fmt.Sprintf("cat %q", "/"+name))
	}
	return n.typ
}

func (x ext4) xattr(name, key string) string {
	x.t.Helper()
	return strings.TrimSpace(x.debugfs(fmt.Sprintf("ea_get -x %q %s", "/"+name, key)))
}

var (
	mtimeField = regexp.MustCompile(`mtime: 0x([0-9a-f]{8}):([0-9a-f]{8})`)
	blockField = regexp.MustCompile(`File ACL: (\d+)`)
)

// mtime is the modification time as the kernel reads it, in seconds.
func (x ext4) mtime(name string) int64 {
	x.t.Helper()
	m := mtimeField.FindStringSubmatch(x.debugfs(fmt.Sprintf("stat %q", "/"+name)))
	require.NotNil(x.t, m, name)
	low, err := strconv.ParseUint(m[1], 16, 32)
	require.NoError(x.t, err)
	high, err := strconv.ParseUint(m[2], 16, 32)
	require.NoError(x.t, err)
	return int64(int32(low)) + int64(high&3)<<32
}

// xattrBlock is the block that has the attributes which the inode has no room for.
func (x ext4) xattrBlock(name string) []byte {
	x.t.Helper()
	m := blockField.FindStringSubmatch(x.debugfs(fmt.Sprintf("stat %q", "/"+name)))
	require.NotNil(x.t, m, name)
	number, err := strconv.ParseInt(m[1], 10, 64)
	require.NoError(x.t, err)
	require.Positive(x.t, number)
	f, err := os.Open(x.path)
	require.NoError(x.t, err)
	defer func() { require.NoError(x.t, f.Close()) }()
	block := make([]byte, extBlock)
	_, err = f.ReadAt(block, number*extBlock)
	require.NoError(x.t, err)
	return block
}
