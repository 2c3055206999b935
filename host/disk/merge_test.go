// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

type layer = []file

// mergeCases say what a stack of layers comes to. Names of `want` are looked
// up in the finished disk.
var mergeCases = map[string]struct {
	layers []layer
	want   map[string]string
}{
	"upper file wins": {
		[]layer{{reg("a", "1"), reg("b", "1")}, {reg("a", "2")}},
		map[string]string{"a": "file 2", "b": "file 1"},
	},
	"whiteout hides a file and a tree": {
		[]layer{{reg("d/a", "1"), reg("d/b", "1"), reg("e/f/g", "1")}, {reg("d/.wh.a", ""), reg(".wh.e", "")}},
		map[string]string{"d/a": "-", "d/b": "file 1", "e": "-", "d/.wh.a": "-", ".wh.e": "-"},
	},
	"whiteout spares its own layer whatever the order": {
		[]layer{{reg("d/a", "1"), reg("x", "1")}, {reg("d/a", "2"), reg("d/.wh.a", ""), reg("x", "2"), reg(".wh.x", "")}},
		map[string]string{"d/a": "file 2", "x": "file 2"},
	},
	"whiteout of a directory that is made anew": {
		[]layer{{reg("d/old", "1")}, {reg(".wh.d", ""), dir("d"), reg("d/new", "2")}},
		map[string]string{"d/old": "-", "d/new": "file 2"},
	},
	"opaque hides all below and spares its own layer": {
		[]layer{{reg("d/a", "1"), reg("d/s/b", "1")}, {dir("d"), reg("d/s/c", "2"), reg("d/.wh..wh..opq", "")}},
		map[string]string{"d/a": "-", "d/s/b": "-", "d/s/c": "file 2", "d/.wh..wh..opq": "-"},
	},
	"opaque in the middle of three layers": {
		[]layer{{reg("d/a", "1")}, {dir("d"), reg("d/.wh..wh..opq", ""), reg("d/b", "2")}, {reg("d/c", "3")}},
		map[string]string{"d/a": "-", "d/b": "file 2", "d/c": "file 3"},
	},
	"whiteout of nothing": {
		[]layer{{reg("a", "1")}, {reg(".wh.zzz", ""), reg("no/such/.wh.b", "")}},
		map[string]string{"a": "file 1", "no": "-"},
	},
	"aufs bookkeeping is dropped": {
		[]layer{{reg(".wh..wh.plnk", "x"), reg("a", "1")}},
		map[string]string{"a": "file 1", ".wh..wh.plnk": "-"},
	},
	"directory becomes file": {
		[]layer{{reg("d/a", "1")}, {reg("d", "2")}},
		map[string]string{"d": "file 2"},
	},
	"file becomes directory": {
		[]layer{{reg("d", "1")}, {dir("d"), reg("d/a", "2")}},
		map[string]string{"d": "dir", "d/a": "file 2"},
	},
	"file becomes directory without an entry for it": {
		[]layer{{reg("d", "1")}, {reg("d/a", "2")}},
		map[string]string{"d": "dir", "d/a": "file 2"},
	},
	"directory becomes symlink": {
		[]layer{{reg("lib/a", "1"), reg("usr/lib/b", "1")}, {sym("lib", "usr/lib")}},
		map[string]string{"lib": "sym usr/lib", "usr/lib/b": "file 1", "usr/lib/a": "-"},
	},
	"path through a symlink of a lower layer": {
		[]layer{{dir("usr/lib"), sym("lib", "usr/lib")}, {reg("lib/a", "2"), reg("lib/.wh.x", "")}},
		map[string]string{"lib": "sym usr/lib", "usr/lib/a": "file 2"},
	},
	"whiteout through a symlink": {
		[]layer{{reg("usr/lib/a", "1"), sym("lib", "/usr/lib")}, {reg("lib/.wh.a", "")}},
		map[string]string{"lib": "sym /usr/lib", "usr/lib/a": "-"},
	},
	"directory replaces a symlink, its opaque mark spares the target": {
		[]layer{{reg("usr/lib/a", "1"), sym("lib", "usr/lib")}, {dir("lib"), reg("lib/.wh..wh..opq", ""), reg("lib/b", "2")}},
		map[string]string{"lib": "dir", "usr/lib/a": "file 1", "lib/b": "file 2", "usr/lib/b": "-"},
	},
	"symlinks cannot leave the root": {
		[]layer{{sym("up", "../../.."), sym("abs", "/"), reg("up/a", "1"), reg("abs/b", "1")}},
		map[string]string{"a": "file 1", "b": "file 1"},
	},
	"dangling symlink as a parent": {
		[]layer{{sym("run", "var/run"), reg("run/a", "1")}},
		map[string]string{"run": "sym var/run", "var/run/a": "file 1"},
	},
	"names with a leading slash or dot": {
		[]layer{{reg("/abs", "1"), reg("./dot", "1"), reg("a//b/./c", "1")}},
		map[string]string{"abs": "file 1", "dot": "file 1", "a/b/c": "file 1"},
	},
	"whiteout then hard link to the rest": {
		[]layer{{reg("a", "1"), hard("b", "a")}, {reg(".wh.a", "")}},
		map[string]string{"a": "-", "b": "file 1"},
	},
	"one name of a hard link changes": {
		[]layer{{reg("a", "1"), hard("b", "a")}, {reg("a", "2")}},
		map[string]string{"a": "file 2", "b": "file 1"},
	},
	"hard link before its target": {
		[]layer{{hard("z", "y"), hard("y", "x"), reg("x", "1")}},
		map[string]string{"x": "file 1", "y": "file 1", "z": "file 1"},
	},
	"hard link to a symlink": {
		[]layer{{sym("s", "nowhere"), hard("t", "s")}},
		map[string]string{"s": "sym nowhere", "t": "sym nowhere"},
	},
	"the writer's own lost+found": {
		[]layer{{reg("lost+found", "1"), reg("a", "1")}},
		map[string]string{"lost+found": "dir", "a": "file 1"},
	},
	"empty image": {
		[]layer{{}},
		map[string]string{"": "dir"},
	},
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for name, tc := range mergeCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tars [][]byte
			for _, l := range tc.layers {
				tars = append(tars, makeTar(t, l...))
			}
			img := build(t, tars...)
			for path, want := range tc.want {
				require.Equal(t, want, img.describe(path), "/%s", path)
			}
		})
	}
}

func TestHardLinksAcrossLayers(t *testing.T) {
	t.Parallel()
	img := build(t, makeTar(t, reg("z/file", "body")), makeTar(t, hard("a/link", "z/file"), hard("m", "/z/file")))
	first, ok := img.stat("z/file")
	require.True(t, ok)
	require.Equal(t, "3", first.links)
	for _, name := range []string{"a/link", "m"} {
		n, _ := img.stat(name)
		require.Equal(t, first.number, n.number, name)
		require.Equal(t, "file body", img.describe(name))
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("deep/", 100) + "file"
	target := strings.Repeat("t/", 500) + "end"
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	img := build(t, makeTar(t,
		file{tar.Header{Name: "suid", Mode: 0o4755, Uid: 1000, Gid: 70000}, "x"},
		file{tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777}, ""},
		file{tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
		file{tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 259, Devminor: 300}, ""},
		file{tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600}, ""},
		file{tar.Header{Name: "ping", PAXRecords: map[string]string{
			paxXattr + "security.capability":      capability,
			paxXattr + "user.note":                "hello",
			paxXattr + "trusted.overlay.redirect": "/etc",
		}}, "x"},
		file{tar.Header{Name: "ancient", ModTime: time.Unix(-5e9, 0)}, "x"},
		file{tar.Header{Name: "", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 7}, ""},
		reg(long, "long"), reg(deep, "deep"), sym("far", target), reg("empty", ""),
		reg("ünï \"q\" \\ code", "odd"),
	))
	suid, _ := img.stat("suid")
	require.Equal(t, inode{typ: "regular", mode: "04755", uid: "1000", gid: "70000", links: "1", number: suid.number}, suid)
	tmp, _ := img.stat("tmp")
	require.Equal(t, "01777", tmp.mode)
	null, _ := img.stat("null")
	require.Equal(t, "character 01:03", null.typ+" "+null.device)
	disk, _ := img.stat("disk")
	require.Equal(t, "block 259:300", disk.typ+" "+disk.device)
	require.Equal(t, "FIFO", img.describe("pipe"))
	require.Equal(t, "security.capability (20) = "+strings.TrimSpace(hexOf(capability)), img.xattr("ping", "security.capability"))
	require.Contains(t, img.xattr("ping", "user.note"), "68 65 6c 6c 6f")
	require.NotContains(t, img.debugfs("ea_list ping"), "overlay")
	root, _ := img.stat("")
	require.Equal(t, "0700", root.mode)
	require.Equal(t, "7", root.uid)
	require.Equal(t, "file long", img.describe(long))
	require.Equal(t, "file deep", img.describe(deep))
	require.Equal(t, "file ", img.describe("empty"))
	require.Equal(t, target, strings.TrimRight(img.debugfs("cat far"), "\x00"))
	require.Contains(t, img.debugfs("stat ancient"), "mtime: 0x00000000")
	require.Contains(t, img.debugfs("ls -p /"), "ünï")
}

func hexOf(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(strings.ToLower(string("0123456789abcdef"[s[i]>>4])) + string("0123456789abcdef"[s[i]&15]) + " ")
	}
	return b.String()
}

func TestSparseFile(t *testing.T) {
	t.Parallel()
	// A GNU tar 1.0 sparse file: 8 MiB of which the last 4 KiB are data.
	const logical, at = 8 << 20, 8<<20 - 4096
	data := strings.Repeat("s", 4096)
	sparseMap := "1\n8384512\n4096\n"
	require.Equal(t, 8384512, at)
	body := sparseMap + strings.Repeat("\x00", tarBlock-len(sparseMap)) + data
	raw := rawSparseTar(t, "GNUSparseFile.0/core", "core", logical, body, reg("after", "1"))
	img := build(t, raw)
	require.Equal(t, "file 1", img.describe("after"))
	got := img.debugfs("cat core")
	require.Len(t, got, logical)
	require.Equal(t, data, got[at:])
	require.Empty(t, strings.Trim(got[:at], "\x00"))
	var alloc int64
	infos, err := (&Cache{dir: strings.TrimSuffix(img.path, "/"+baseOf(img.path))}).List()
	require.NoError(t, err)
	for _, i := range infos {
		alloc = i.Allocated
	}
	require.Less(t, alloc, int64(2<<20), "zeros are holes")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	cut := makeTar(t, reg("a", strings.Repeat("x", 5000)))[:3000]
	many := make([]file, 200)
	for i := range many {
		many[i] = reg(strings.Repeat("f", i+1), "")
	}
	cases := map[string]struct {
		tar    []byte
		limits Limits
		want   error
		text   string
	}{
		"dot dot":             {makeTar(t, reg("a/../../etc/passwd", "x")), Limits{}, ErrBadLayer, "leaves the root"},
		"dot dot hard link":   {makeTar(t, hard("a", "../../etc/passwd")), Limits{}, ErrBadLayer, "leaves the root"},
		"dangling hard link":  {makeTar(t, hard("a", "b")), Limits{}, ErrBadLayer, `"a" points to "b"`},
		"hard link circle":    {makeTar(t, hard("a", "b"), hard("b", "a")), Limits{}, ErrBadLayer, "does not exist"},
		"hard link to a dir":  {makeTar(t, dir("d"), hard("a", "d")), Limits{}, ErrBadLayer, "directory"},
		"symlink circle":      {makeTar(t, sym("a", "b"), sym("b", "a"), reg("a/x", "")), Limits{}, ErrBadLayer, "symlinks"},
		"long component":      {makeTar(t, reg(strings.Repeat("n", 256), "")), Limits{}, ErrBadLayer, "256 bytes"},
		"long symlink":        {makeTar(t, sym("a", strings.Repeat("n", 4096))), Limits{}, ErrBadLayer, "4096 bytes"},
		"root as a file":      {makeTar(t, reg("./.", "x")), Limits{}, ErrBadLayer, "root is not a directory"},
		"empty whiteout":      {makeTar(t, reg(".wh.", "")), Limits{}, ErrBadLayer, "names nothing"},
		"cut short":           {cut, Limits{}, ErrBadLayer, "unexpected EOF"},
		"no tar":              {[]byte(strings.Repeat("no tar ", 200)), Limits{}, ErrBadLayer, "tar"},
		"too many files":      {makeTar(t, many...), Limits{Entries: 100}, ErrTooLarge, "100 files"},
		"too many bytes":      {makeTar(t, reg("a", strings.Repeat("x", 1<<20))), Limits{Bytes: 1 << 19}, ErrTooLarge, "524288 bytes"},
		"sparse bomb":         {rawSparseTar(t, "s/b", "b", 31<<30, "0\n"+strings.Repeat("\x00", 510)), Limits{Bytes: 1 << 20}, ErrTooLarge, "1048576 bytes"},
		"xattr beyond a node": {makeTar(t, file{tar.Header{Name: "a", PAXRecords: map[string]string{paxXattr + "user.x": strings.Repeat("x", 5000)}}, ""}), Limits{}, nil, "xattr"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := openCache(t, tc.limits)
			_, err := c.Root(t.Context(), digest.FromString(name), layersOf(tc.tar), nil)
			require.ErrorContains(t, err, tc.text)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
			}
			requireNothingLeft(t, c)
		})
	}
}

// requireNothingLeft looks for anything but locks in the cache.
func requireNothingLeft(t testing.TB, c *Cache) {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.Equal(t, lockDir, e.Name())
	}
}

// rawSparseTar writes a PAX entry in GNU's sparse format 1.0, which
// archive/tar reads and does not write.
func rawSparseTar(t testing.TB, stored, name string, size int64, body string, more ...file) []byte {
	t.Helper()
	var pax bytes.Buffer
	for _, kv := range [][2]string{
		{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"},
		{"GNU.sparse.name", name}, {"GNU.sparse.realsize", itoa(size)},
	} {
		line := " " + kv[0] + "=" + kv[1] + "\n"
		n := len(line) + 2
		require.Less(t, n, 100)
		pax.WriteString(itoa(int64(n)) + line)
	}
	out := append(rawEntry(t, "PaxHeaders/x", 'x', pax.String()), rawEntry(t, stored, '0', body)...)
	return append(out, makeTar(t, more...)...)
}

func rawEntry(t testing.TB, name string, typ byte, body string) []byte {
	t.Helper()
	b := makeTar(t, reg(name, body))
	b = b[:tarBlock+(len(body)+tarBlock-1)/tarBlock*tarBlock]
	b[156] = typ
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:tarBlock] {
		sum += int(c)
	}
	copy(b[148:156], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	return b
}
