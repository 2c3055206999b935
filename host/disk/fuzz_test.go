// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"bytes"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// FuzzRoot lays two hostile layers over an honest one. Whatever they hold, the
// build ends with a refusal or with a file system that e2fsck finds clean, and
// leaves nothing else.
func FuzzRoot(f *testing.F) {
	honest := makeTar(f, dir("usr/lib"), sym("lib", "usr/lib"), reg("usr/lib/a", "1"), hard("b", "usr/lib/a"), reg("d/x", "1"))
	for _, tc := range mergeCases {
		var tars [][]byte
		for _, l := range tc.layers {
			tars = append(tars, makeTar(f, l...))
		}
		tars = append(tars, honest)
		f.Add(tars[0], tars[1])
	}
	f.Add(makeTar(f, sym("d", "d"), reg("d/.wh..wh..opq", "")), makeTar(f, hard("d/y", "lib/a"), reg("../x", "")))
	f.Add(makeTar(f, hard("c", "b"), reg(".wh.b", "")), makeTar(f, xattrs("c", "user.x", "1"), reg("usr/.wh.lib", "")))
	f.Add(rawSparseTar(f, "s/b", "b", 9000, "1\n0\n512\n"+strings.Repeat("\x00", 502)+strings.Repeat("s", 512)), honest)
	f.Add(append(rawEntry(f, "@LongLink", 'L', strings.Repeat("n/", 300)+"\x00"), honest...), rawOwner(f, 70000))
	f.Add(goldenLayers(f)[1], honest)
	f.Fuzz(func(t *testing.T, one, two []byte) { buildHostile(t, honest, mend(one), mend(two)) })
}

// buildHostile is what every hostile layer owes.
func buildHostile(t *testing.T, layers ...[]byte) {
	c := openCache(t, Limits{Entries: 1000, Bytes: 1 << 20})
	path, err := c.Root(t.Context(), digest.FromString("k"), layersOf(layers...), nil)
	if err != nil {
		if !errors.Is(err, ErrBadLayer) && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("refused without a reason: %v", err)
		}
		requireNothingLeft(t, c)
		return
	}
	ext4{t, path}.check()
	left, err := filepath.Glob(filepath.Join(c.dir, buildPrefix+"*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// mend sets the check sums of a tar's headers: a change of one byte would otherwise be
// the end of it, and nothing behind the reader would ever be reached.
func mend(raw []byte) []byte {
	raw = bytes.Clone(raw)
	for at := 0; at+tarBlock <= len(raw); {
		header := raw[at : at+tarBlock]
		if header[0] != 0 {
			setSum(header)
		}
		size, _ := strconv.ParseInt(strings.Trim(string(header[124:136]), " \x00"), 8, 32)
		at += tarBlock + (int(size)+tarBlock-1)/tarBlock*tarBlock
	}
	return raw
}

// FuzzLayers makes layers of a script, four bytes an entry: type and layer, name, target,
// and what else it has. Few names and many kinds meet in every way.
func FuzzLayers(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 1, 2, 1, 0, 0x12, 0x81, 0, 0, 0x21, 9, 2, 3})
	f.Add([]byte{3, 4, 0, 0, 0, 5, 0, 9, 0x13, 4, 0, 0, 0x10, 0xC4, 0, 0, 0x11, 7, 5, 0})
	f.Add([]byte{2, 1, 3, 0, 0, 6, 0, 0, 0x11, 2, 6, 0, 0x10, 0x81, 0, 0, 0x20, 6, 0, 255})
	f.Add(bytes.Repeat([]byte{1, 2, 3, 4, 0x15, 0x86, 7, 8, 0x29, 10, 11, 12}, 8))
	f.Fuzz(func(t *testing.T, script []byte) {
		var layers [3][]file
		for part := range slices.Chunk(script[:min(len(script), 400)], 4) {
			if len(part) == 4 {
				n := int(part[0]>>4) % len(layers)
				layers[n] = append(layers[n], scripted(part))
			}
		}
		buildHostile(t, makeTar(t, layers[0]...), makeTar(t, layers[1]...), makeTar(t, layers[2]...))
	})
}

// scriptNames are such that each is part of others.
var scriptNames = []string{"a", "a/b", "a/b/c", "d", "d/a", "d/a/b", "l", "l/a", "l/l", "lost+found", "lost+found/x", "./a/./b", "/d", "l/../a", "a/b/c/d", ""}

func scripted(part []byte) file {
	name, target := scriptNames[part[1]%16], scriptNames[part[2]%16]
	switch part[1] >> 6 { // what it hides
	case 2:
		name = path.Join(path.Dir(name), whiteoutPrefix+path.Base(name))
	case 3:
		name = path.Join(name, whiteoutOpaque)
	}
	more := int(part[3])
	hdr := tar.Header{Name: name, Mode: int64(more) << 4, Uid: more << 9, ModTime: time.Unix(int64(more-50)<<26, 0), Format: tar.FormatPAX}
	if more&1 != 0 {
		hdr.PAXRecords = map[string]string{}
		for i := range more % 16 {
			space := []string{"user.", "trusted.", "security."}[i%3]
			hdr.PAXRecords[paxXattr+space+strings.Repeat("n", i)+"x"] = strings.Repeat("v", more)
		}
	}
	switch part[0] % 8 {
	case 1, 2:
		hdr.Typeflag, hdr.Linkname = tar.TypeLink, target
	case 3:
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, []string{target, "/" + target, "../" + target, "."}[more%4]
	case 4, 5:
		hdr.Typeflag = tar.TypeDir
	case 6:
		hdr.Typeflag, hdr.Devmajor, hdr.Devminor = tar.TypeChar, int64(more), int64(part[2])
	default:
		hdr.Name = strings.TrimSuffix(name, "/")
		return file{hdr, strings.Repeat("content ", more*more/16)}
	}
	return file{hdr, ""}
}

// FuzzMerge is the merge alone and so reaches deeper in the same time: it
// never panics, and no name of the result leaves the root or is a whiteout.
func FuzzMerge(f *testing.F) {
	f.Add("d/a", byte(tar.TypeReg), "", ".wh.d", byte(tar.TypeReg), "")
	f.Add("l", byte(tar.TypeSymlink), "../..", "l/x", byte(tar.TypeReg), "")
	f.Add("l", byte(tar.TypeSymlink), "l", "l/.wh.x", byte(tar.TypeReg), "")
	f.Add("x", byte(tar.TypeLink), "usr/lib/a", "x/y", byte(tar.TypeDir), "")
	f.Add("s", byte(tar.TypeSymlink), ".wh.x", "s/y", byte(tar.TypeReg), "")
	f.Add("x", byte(tar.TypeLink), "lib/a", "usr/lib/.wh.a", byte(tar.TypeReg), "")
	f.Fuzz(func(t *testing.T, n1 string, t1 byte, l1, n2 string, t2 byte, l2 string) {
		tr := newTree(DefaultLimits)
		for layer, hdr := range []*tar.Header{
			{Name: "usr/lib/a", Typeflag: tar.TypeReg},
			{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"},
			{Name: n1, Typeflag: t1, Linkname: l1},
			{Name: n2, Typeflag: t2, Linkname: l2},
		} {
			e, err := newEntry(hdr, layer, 0, DefaultLimits)
			if err != nil || e == nil {
				continue
			}
			if err := tr.apply([]*entry{e}); err != nil && !errors.Is(err, ErrBadLayer) {
				t.Fatal(err)
			}
		}
		checkNames(t, tr.root, 0)
	})
}

func checkNames(t *testing.T, n *node, depth int) {
	require.Less(t, depth, maxPath)
	for name, child := range n.children {
		require.NotContains(t, name, "/")
		require.NotContains(t, []string{"", ".", ".."}, name)
		require.LessOrEqual(t, len(name), maxName)
		require.False(t, isWhiteout(name), name)
		checkNames(t, child, depth+1)
	}
}
