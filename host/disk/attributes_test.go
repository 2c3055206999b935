// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
		file{tar.Header{Name: "sixties", ModTime: time.Unix(-2e8, 5e8), Format: tar.FormatPAX}, "x"},
		file{tar.Header{Name: "later", ModTime: time.Unix(3e9, 0)}, "x"},
		file{tar.Header{Name: "much later", ModTime: time.Unix(9e9, 0)}, "x"},
		file{tar.Header{Name: "never", ModTime: time.Unix(1e12, 0)}, "x"},
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
	for name, want := range map[string]int64{"ancient": 0, "sixties": -2e8, "later": 3e9, "much later": 9e9, "never": 0} {
		require.Equal(t, want, img.mtime(name), name)
	}
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

// TestXattrBlock: the kernel finds every one of the attributes that do not fit into the
// inode, which it does where they stand in its order.
func TestXattrBlock(t *testing.T) {
	t.Parallel()
	records := map[string]string{}
	for i := range 40 {
		for _, space := range []string{"security.", "trusted.", "user."} {
			// Among more than twelve the ext4 writer's comparison fails.
			name := space + strings.Repeat("n", i*7%11) + itoa(int64(i))
			records[paxXattr+name] = itoa(int64(i))
		}
	}
	img := build(t, makeTar(t, file{tar.Header{Name: "a", PAXRecords: records}, "x"}, file{tar.Header{Name: "b"}, "x"}))
	block := img.xattrBlock("a")
	var seen []string
	for entry := xattrBlockHeader; block[entry] != 0; entry += xattrOverhead + (int(block[entry])+3)&^3 {
		short := string(block[entry+xattrOverhead:][:block[entry]])
		// Name space, length, bytes, each so that text compares as the numbers do.
		seen = append(seen, string([]byte{block[entry+1], block[entry]})+short)
	}
	require.Greater(t, len(seen), 100)
	require.IsIncreasing(t, seen)
	for key, value := range records {
		name := strings.TrimPrefix(key, paxXattr)
		require.Equal(t, name+" ("+itoa(int64(len(value)))+") = "+strings.TrimSpace(hexOf(value)), img.xattr("a", name))
	}
}
