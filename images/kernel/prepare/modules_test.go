// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

// koELF is an ELF with nothing but a .modinfo section.
func koELF(t *testing.T, modinfo string) []byte {
	t.Helper()
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Shoff: 64, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	}))
	at := uint64(64 + 3*64)
	for _, section := range []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(modinfo)), Size: uint64(len(names))},
	} {
		require.NoError(t, binary.Write(&b, binary.LittleEndian, section))
	}
	b.WriteString(modinfo)
	b.WriteString(names)
	return b.Bytes()
}

func sign(ko []byte) []byte {
	sig := append([]byte("signature"), 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9)
	return append(append(bytes.Clone(ko), sig...), signatureMagic...)
}

func TestSelectModules(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(file string, data []byte) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "kernel"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, "kernel", file), data, 0o644))
	}
	plain := koELF(t, "name=a\x00depends=b-one,c\x00")
	write("a.ko", sign(plain))
	write("b-one.ko", koELF(t, "depends=c\x00"))
	enc, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	write("c.ko.zst", enc.EncodeAll(koELF(t, "depends=\x00"), nil))
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	require.NoError(t, err)
	_, err = w.Write(koELF(t, "depends=built_in\x00"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	write("d.ko.xz", packed.Bytes())
	write("x.ko", koELF(t, "depends=y\x00"))
	write("y.ko", koELF(t, "depends=x\x00"))
	write("text.ko", []byte("no ELF"))
	require.NoError(t, os.WriteFile(filepath.Join(root, "modules.builtin"), []byte("kernel/built-in.ko\n"), 0o644))

	tests := []struct {
		name    string
		wanted  []string
		want    []string
		wantErr string
	}{
		{"dependencies first, each once", []string{"a", "c"}, []string{"c", "b_one", "a"}, ""},
		{"dashes and underscores", []string{"b_one"}, []string{"c", "b_one"}, ""},
		{"built in", []string{"built-in", "d"}, []string{"d"}, ""},
		{"missing", []string{"nope"}, nil, "no module nope"},
		{"cycle", []string{"x"}, nil, "depends on itself"},
		{"not a module", []string{"text"}, nil, "read module text"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			modules, err := selectModules(root, tt.wanted)
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, m := range modules {
				names = append(names, m.name)
				if m.name == "a" {
					require.Equal(t, plain, m.data, "the signature is cut off")
				}
			}
			require.Equal(t, tt.want, names)
		})
	}
}

func TestStripSignatureBounds(t *testing.T) {
	t.Parallel()
	for name, ko := range map[string][]byte{
		"no trailer":     []byte(signatureMagic),
		"longer than it": append([]byte{0, 0, 2, 255, 255, 0, 0, 0, 255, 255, 255, 255}, signatureMagic...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := stripSignature(ko)
			require.ErrorContains(t, err, "signature")
		})
	}
}
