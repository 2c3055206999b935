// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

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
		"too many files":      {makeTar(t, many...), Limits{Entries: 100}, ErrTooLarge, "files: 101 or more, and 100 are allowed: raise WAGGLE_IMAGE_MAX_FILES"},
		"too many bytes":      {makeTar(t, reg("a", strings.Repeat("x", 1<<20))), Limits{Bytes: 1 << 19}, ErrTooLarge, "1.0 MiB (1048576 bytes) or more, and 512 KiB are allowed: raise WAGGLE_IMAGE_MAX_MB"},
		"sparse bomb":         {rawSparseTar(t, "s/b", "b", 31<<30, "0\n"+strings.Repeat("\x00", 510)), Limits{Bytes: 1 << 20}, ErrTooLarge, "31 GiB (33285996544 bytes) or more, and 1.0 MiB are allowed: raise WAGGLE_IMAGE_MAX_MB"},
		"sparse giant":        {rawSparseTar(t, "s/b", "b", 33<<30, "0\n"+strings.Repeat("\x00", 510)), Limits{}, ErrTooLarge, "32 GiB are allowed: raise WAGGLE_IMAGE_MAX_FILE_MB"},
		"one large file":      {makeTar(t, reg("a", strings.Repeat("x", 5000))), Limits{FileBytes: 4000}, ErrTooLarge, `file "a": 4.9 KiB (5000 bytes) or more, and 3.9 KiB are allowed: raise WAGGLE_IMAGE_MAX_FILE_MB`},
		"too deep":            {makeTar(t, reg(strings.Repeat("d/", 20)+"f", "")), Limits{Depth: 20}, ErrTooLarge, "21 or more, and 20 are allowed: raise WAGGLE_IMAGE_MAX_DEPTH"},
		"deep by a symlink":   {makeTar(t, sym("s", strings.Repeat("d/", 15)), reg("s/"+strings.Repeat("e/", 10)+"f", "")), Limits{Depth: 20}, ErrTooLarge, "raise WAGGLE_IMAGE_MAX_DEPTH"},
		"deep at last":        {makeTar(t, sym("s", strings.Repeat("d/", 15)), reg("s/"+strings.Repeat("e/", 5)+"f", "")), Limits{Depth: 20}, ErrTooLarge, "21 or more, and 20 are allowed: raise WAGGLE_IMAGE_MAX_DEPTH"},
		"long name":           {makeTar(t, reg("some/name", "")), Limits{PathBytes: 8}, ErrTooLarge, "9 or more, and 8 are allowed: raise WAGGLE_IMAGE_MAX_PATH"},
		"long by a symlink":   {makeTar(t, sym("s", "some/dir"), reg("s/name", "")), Limits{PathBytes: 12}, ErrTooLarge, "13 or more, and 12 are allowed: raise WAGGLE_IMAGE_MAX_PATH"},
		"longer than Linux's": {makeTar(t, sym("s", strings.Repeat(strings.Repeat("n", 255)+"/", 15)), reg("s/"+strings.Repeat("n", 255), ""), reg("s/"+strings.Repeat("m/", 200)+"f", "")), Limits{}, ErrBadLayer, "a name of 4"},
		"no name at all":      {makeTar(t, reg(strings.Repeat("n/", 2099)+"nn", "")), Limits{}, ErrBadLayer, "a name of 4200 bytes"},
		"many in one name":    {makeTar(t, reg("a/"+strings.Repeat("d/", 400)+"f", ""), reg("b/"+strings.Repeat("d/", 400)+"f", "")), Limits{Entries: 700}, ErrTooLarge, "701 or more, and 700 are allowed: raise WAGGLE_IMAGE_MAX_FILES"},
		"much to remember":    {makeTar(t, sym("a", strings.Repeat("x", 3000)), sym("b", strings.Repeat("x", 3000))), Limits{IndexBytes: 5000}, ErrTooLarge, "6002 bytes) or more, and 4.9 KiB are allowed: raise WAGGLE_IMAGE_MAX_INDEX_MB"},
		"much in attributes":  {makeTar(t, xattrs("a", "user.x", strings.Repeat("x", 500))), Limits{XattrBytes: 400}, ErrTooLarge, `of "a": 506 B (506 bytes) or more, and 400 B are allowed: raise WAGGLE_IMAGE_MAX_XATTR`},
		"attribute, no name":  {makeTar(t, xattrs("a", "user.", "x")), Limits{}, ErrBadLayer, `"a" has an extended attribute with a name of 5 bytes`},
		"attribute, its name": {makeTar(t, xattrs("a", "user."+strings.Repeat("n", 260), "x")), Limits{}, ErrBadLayer, "a name of 265 bytes"},
		"link below itself":   {makeTar(t, hard("a/b", "a")), Limits{}, ErrBadLayer, "does not exist"},
		"link to what is not": {makeTar(t, reg("a", "1"), hard("b", "a/x")), Limits{}, ErrBadLayer, "does not exist"},
		"link to a whiteout":  {makeTar(t, reg(".wh.x", ""), hard("b", ".wh.x")), Limits{}, ErrBadLayer, "does not exist"},
		"through a whiteout":  {makeTar(t, reg("a/.wh.b/c", "")), Limits{}, ErrBadLayer, "leads through a whiteout"},
		"linked to whiteouts": {makeTar(t, sym("s", ".wh.b"), reg("s/c", "")), Limits{}, ErrBadLayer, "leads through a whiteout"},
		"negative owner":      {rawOwner(t, -1), Limits{}, ErrBadLayer, "owner -1:0"},
		"owner beyond 32 bit": {rawOwner(t, 1<<32), Limits{}, ErrBadLayer, "owner 4294967296:0"},
		"device beyond ext4":  {makeTar(t, file{tar.Header{Name: "n", Typeflag: tar.TypeChar, Devmajor: 1 << 13}, ""}), Limits{}, ErrBadLayer, "number 8192:0"},
		"NUL in a PAX name":   {append(rawEntry(t, "x", 'x', paxLine("path", "a\x00b")), makeTar(t, reg("a", ""))...), Limits{}, ErrBadLayer, "tar"},
		"PAX of 2 MiB":        {append(rawEntry(t, "x", 'x', paxLine("comment", strings.Repeat("c", 2<<20))), makeTar(t, reg("a", ""))...), Limits{}, ErrBadLayer, "tar"},
		"unknown type":        {rawEntry(t, "a", 'Z', ""), Limits{}, ErrBadLayer, "unknown tar type"},
		"xattr beyond a node": {makeTar(t, xattrs("a", "user.x", strings.Repeat("x", 5000))), Limits{}, ErrTooLarge, `attributes of "a" do not fit into the 4156 bytes`},
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

// TestTooManyLayers: they are not even opened.
func TestTooManyLayers(t *testing.T) {
	t.Parallel()
	c := openCache(t, Limits{Layers: 3})
	_, err := c.Root(t.Context(), keyOf("k"), make([]Layer, 4), nil)
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, "layers: 4 or more, and 3 are allowed: raise WAGGLE_IMAGE_MAX_LAYERS")
}

// TestEndless: a layer that never ends is given up, whatever it never ends with.
func TestEndless(t *testing.T) {
	t.Parallel()
	name := rawEntry(t, "@LongLink", 'L', strings.Repeat("n", 300)+"\x00")
	for kind, piece := range map[string][]byte{
		"PAX headers":    rawEntry(t, "x", 'x', paxLine("comment", strings.Repeat("c", 9000))),
		"global headers": rawEntry(t, "x", 'g', paxLine("comment", "c")),
		"long names":     name,
		"empty files":    rawEntry(t, "same", '0', ""),
		"zeros":          make([]byte, 64<<10),
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := openCache(t, Limits{Bytes: 8 << 20, Entries: 5000})
			source := &endless{piece: piece}
			layers := []Layer{{Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(source), nil }}}
			_, err := c.Root(t.Context(), keyOf(kind), layers, nil)
			require.ErrorIs(t, err, ErrTooLarge)
			require.LessOrEqual(t, source.read, int64(10<<20), "read ahead of the bound")
			requireNothingLeft(t, c)
		})
	}
}

// endless repeats a piece.
type endless struct {
	piece []byte
	read  int64
}

func (e *endless) Read(p []byte) (n int, _ error) {
	for n < len(p) {
		part := copy(p[n:], e.piece[e.read%int64(len(e.piece)):])
		n, e.read = n+part, e.read+int64(part)
	}
	return n, nil
}

// TestIndexIsSmall: of a header of 1 MiB only what is needed stays in memory.
func TestIndexIsSmall(t *testing.T) {
	t.Parallel()
	var entries []*entry
	for i := range 40 {
		raw := append(rawEntry(t, "x", 'x', paxLine("comment", strings.Repeat("c", 900<<10))+
			paxLine("linkpath", "target")+paxLine(paxXattr+"user.a", itoa(int64(i)))), rawEntry(t, "s"+itoa(int64(i)), '2', "")...)
		hdr, err := tar.NewReader(bytes.NewReader(raw)).Next()
		require.NoError(t, err)
		e, err := newEntry(hdr, 0, 0, DefaultLimits)
		require.NoError(t, err)
		require.Equal(t, "target", e.node.link)
		require.Equal(t, itoa(int64(i)), e.node.xattrs["user.a"])
		start := unsafe.StringData(hdr.PAXRecords["comment"])
		for _, kept := range []string{e.name, e.node.link, e.node.xattrs["user.a"]} {
			distance := int(uintptr(unsafe.Pointer(unsafe.StringData(kept)))) - int(uintptr(unsafe.Pointer(start)))
			require.False(t, distance >= 0 && distance < 900<<10+256, "%q is a piece of the header", kept)
		}
		entries = append(entries, e)
	}
	require.Len(t, entries, 40)
}

// TestCannotBeCounted: ext4 has 16 bits for the names of a file.
func TestCannotBeCounted(t *testing.T) {
	t.Parallel()
	names, dirs, root := newTree(DefaultLimits), newTree(DefaultLimits), newDir()
	one := &node{typ: tar.TypeReg}
	for i := range maxLinks {
		names.root.children[itoa(int64(i))] = one
		root.children[itoa(int64(i))] = newDir()
	}
	_, _, err := names.measure()
	require.NoError(t, err)
	names.root.children["one more"] = one
	_, _, err = names.measure()
	require.ErrorIs(t, err, ErrTooLarge)
	dirs.root.children["d"] = root
	_, _, err = dirs.measure()
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, `65000 directories in "d"`)
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
		pax.WriteString(paxLine(kv[0], kv[1]))
	}
	out := append(rawEntry(t, "PaxHeaders/x", 'x', pax.String()), rawEntry(t, stored, '0', body)...)
	return append(out, makeTar(t, more...)...)
}

func rawEntry(t testing.TB, name string, typ byte, body string) []byte {
	t.Helper()
	b := makeTar(t, reg(name, body))
	b = b[:tarBlock+(len(body)+tarBlock-1)/tarBlock*tarBlock]
	b[156] = typ
	setSum(b[:tarBlock])
	return b
}

// setSum sets the check sum of a header.
func setSum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// rawOwner is a file with an owner that archive/tar does not write.
func rawOwner(t testing.TB, uid int64) []byte {
	t.Helper()
	return append(rawEntry(t, "x", 'x', paxLine("uid", itoa(uid))), makeTar(t, reg("a", ""))...)
}

// paxLine is one record of a PAX header.
func paxLine(key, value string) string {
	line := " " + key + "=" + value + "\n"
	n := len(line)
	for len(itoa(int64(n)))+len(line) != n {
		n = len(itoa(int64(n))) + len(line)
	}
	return itoa(int64(n)) + line
}

func xattrs(name, key, value string) file {
	return file{tar.Header{Name: name, PAXRecords: map[string]string{paxXattr + key: value}}, ""}
}
