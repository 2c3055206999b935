// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"testing"

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
	"hard link to a file that its own layer hides": {
		[]layer{{reg("a", "1")}, {hard("b", "a"), reg(".wh.a", "")}},
		map[string]string{"a": "-", "b": "file 1"},
	},
	"hard link to a hidden file stands after the whiteout, and has a link itself": {
		[]layer{{reg("d/a", "1")}, {dir("d"), reg("d/.wh..wh..opq", ""), hard("d/c", "e"), hard("e", "d/a")}},
		map[string]string{"d/a": "-", "d/c": "file 1", "e": "file 1"},
	},
	"hard link to a file that is hidden and made anew": {
		[]layer{{reg("a", "1")}, {hard("b", "a"), reg(".wh.a", ""), reg("a", "2")}},
		map[string]string{"a": "file 2", "b": "file 2"},
	},
	"hard link through a symlink": {
		[]layer{{reg("usr/lib/a", "1"), sym("lib", "usr/lib")}, {hard("b", "lib/a"), hard("lib/c", "/lib/a")}},
		map[string]string{"b": "file 1", "usr/lib/c": "file 1"},
	},
	"hard link takes the place of a directory": {
		[]layer{{reg("d/x", "1"), reg("a", "1")}, {hard("d", "a")}},
		map[string]string{"d": "file 1"},
	},
	"the last of two entries counts, and a link keeps the first": {
		[]layer{{reg("a", "1"), hard("b", "a"), reg("a", "2"), dir("d"), reg("d/x", "1"), reg("d", "3"), dir("d")}},
		map[string]string{"a": "file 2", "b": "file 1", "d": "dir", "d/x": "-"},
	},
	"opaque root": {
		[]layer{{reg("a", "1"), reg("d/b", "1")}, {reg(".wh..wh..opq", ""), reg("c", "2")}},
		map[string]string{"a": "-", "d": "-", "c": "file 2"},
	},
	"what was hidden comes back": {
		[]layer{{reg("d/a", "1"), reg("d/b", "1")}, {reg(".wh.d", "")}, {reg("d/b", "3")}},
		map[string]string{"d/a": "-", "d/b": "file 3"},
	},
	"symlink of the same layer, later replaced": {
		[]layer{{dir("real"), sym("s", "real"), reg("s/x", "1"), dir("s"), reg("s/y", "2")}},
		map[string]string{"real/x": "file 1", "s": "dir", "s/y": "file 2", "real/y": "-"},
	},
	"symlink to a file as a parent": {
		[]layer{{reg("f", "1"), sym("s", "f"), reg("s/x", "2")}},
		map[string]string{"s": "sym f", "f": "dir", "f/x": "file 2"},
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
