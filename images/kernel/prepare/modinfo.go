// SPDX-License-Identifier: Apache-2.0

package prepare

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// signatureMagic ends a signed module (include/linux/module_signature.h).
const signatureMagic = "~Module signature appended~\n"

// modinfo is what load order needs of a module's .modinfo section.
type modinfo struct {
	depends []string
}

// parseModinfo reads the NUL-separated key=value pairs of .modinfo.
func parseModinfo(ko []byte) (modinfo, error) {
	file, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return modinfo{}, fmt.Errorf("open ELF: %w", err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return modinfo{}, errors.New("no .modinfo section")
	}
	data, err := section.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("read .modinfo: %w", err)
	}
	var info modinfo
	for pair := range strings.SplitSeq(string(data), "\x00") {
		if deps, ok := strings.CutPrefix(pair, "depends="); ok && deps != "" {
			info.depends = strings.Split(deps, ",")
		}
	}
	return info, nil
}

// stripSignature cuts the signature off a module: the guest's kernel does not
// insist on one, and under emulation checking it costs milliseconds.
func stripSignature(ko []byte) ([]byte, error) {
	body, ok := bytes.CutSuffix(ko, []byte(signatureMagic))
	if !ok {
		return ko, nil
	}
	// struct module_signature: algo, hash, id_type, signer_len, key_id_len,
	// 3 bytes of padding, sig_len (big endian).
	const trailer = 12
	if len(body) < trailer {
		return nil, errors.New("module signature is truncated")
	}
	t := body[len(body)-trailer:]
	size := uint64(trailer) + uint64(t[3]) + uint64(t[4]) + uint64(binary.BigEndian.Uint32(t[8:]))
	if size > uint64(len(body)) {
		return nil, fmt.Errorf("module signature of %d bytes in a module of %d", size, len(body))
	}
	return body[:uint64(len(body))-size], nil
}
