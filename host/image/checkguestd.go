// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// bakeIt is the remedy of most that is missing.
const bakeIt = "run `waggle image bake`"

// binary checks the file guestd and returns its digest; "" when there is none to
// compare with.
func (c *checker) binary() digest.Digest {
	at, n, ok := c.files.find(GuestdPath)
	body, kept := c.files.content[at]
	switch {
	case !ok:
		c.missing("guestd", "%s is not there, so machines use the host's guestd; %s", GuestdPath, bakeIt)
		return ""
	case n.kind != tar.TypeReg || !kept || len(body) > maxGuestd:
		c.missing("guestd", "%s is no plain file of this image; %s", GuestdPath, bakeIt)
		return ""
	case n.mode != 0o755 || n.uid != 0 || n.gid != 0:
		c.missing("guestd", "%s has mode %04o and owner %d:%d, it must have 0755 and 0:0; %s", GuestdPath, n.mode, n.uid, n.gid, bakeIt)
	default:
		if err := checkBinary(GuestdPath, body, c.img.Arch); err != nil {
			c.missing("guestd", "%v", err)
		} else {
			c.good("guestd", "%s, static, for %s", GuestdPath, c.img.Arch)
		}
	}
	return digest.FromBytes(body)
}

// info checks guestd.json, by which stage 1 decides, against the binary.
func (c *checker) info(binary digest.Digest) *guestdInfo {
	at, _, ok := c.files.find(GuestdInfo)
	if !ok {
		c.missing("guestd.json", "%s is not there: without it the host's guestd is used; %s", GuestdInfo, bakeIt)
		return nil
	}
	var info guestdInfo
	if err := json.Unmarshal(c.files.content[at], &info); err != nil {
		c.missing("guestd.json", "%s cannot be read: %v; %s", GuestdInfo, err, bakeIt)
		return nil
	}
	switch {
	case binary != "" && info.Digest != binary:
		c.missing("guestd.json", "it is of a guestd with the digest %.80s, the one that is there has %s; %s", info.Digest, binary, bakeIt)
	default:
		c.good("guestd.json", "version %.64q", info.Version)
	}
	if info.ProtocolMin > c.max || info.ProtocolMax < c.min {
		c.missing("protocol", "%d to %d: this waggle speaks %d to %d; bake it again with this waggle's guestd",
			info.ProtocolMin, info.ProtocolMax, c.min, c.max)
	} else {
		c.good("protocol", "%d to %d fits this waggle's %d to %d", info.ProtocolMin, info.ProtocolMax, c.min, c.max)
	}
	return &info
}

// labels checks what the image says of its guestd without being opened.
func (c *checker) labels(info *guestdInfo) {
	if info == nil {
		return // there is nothing that they could fit
	}
	var wrong []string
	want := info.labels()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := c.img.Config.Labels[name]; got != want[name] {
			wrong = append(wrong, fmt.Sprintf("%s is %.80q and must be %q", name, got, want[name]))
		}
	}
	if len(wrong) > 0 {
		c.missing("labels", "%s", strings.Join(wrong, "; "))
		return
	}
	c.good("labels", "io.waggle.guestd.* say the same")
}
