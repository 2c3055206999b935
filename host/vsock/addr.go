// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// maxPath is the longest Unix socket path in bytes that every system here
// takes: macOS has room for 103 and a terminating zero, Linux for 107.
const maxPath = 103

// minGuestCID: lower context ids are the hypervisor, the local machine and the
// host; the highest is a wildcard.
const minGuestCID = 3

const formats = "use unix:///path.sock, vsock://CID:PORT or hybrid:///path.sock:PORT"

type scheme uint8

const (
	schemeUnix scheme = iota + 1
	schemeVsock
	schemeHybrid
)

// Addr is the address of a guest port. It is a comparable value; the zero Addr
// names nothing and cannot be dialled.
type Addr struct {
	scheme    scheme
	path      string
	cid, port uint32
}

// Unix is the address of a backend's own socket. path is absolute.
func Unix(path string) (Addr, error) { return ParseAddr("unix://" + path) }

// ParseAddr reads an address in one of the forms of the package comment.
func ParseAddr(s string) (Addr, error) {
	a, err := parse(s)
	if err != nil {
		return Addr{}, fmt.Errorf("guest address %q: %w", s, err)
	}
	return a, nil
}

func parse(s string) (Addr, error) {
	name, rest, ok := strings.Cut(s, "://")
	if !ok {
		return Addr{}, errors.New("no scheme; " + formats)
	}
	switch name {
	case "unix":
		return Addr{scheme: schemeUnix, path: rest}, checkPath(rest)
	case "vsock":
		cid, port, ok := strings.Cut(rest, ":")
		if !ok {
			return Addr{}, errors.New("no port; use vsock://CID:PORT")
		}
		c, err := number("CID", cid)
		if err != nil {
			return Addr{}, err
		}
		if c < minGuestCID || c == math.MaxUint32 {
			return Addr{}, fmt.Errorf("CID %d is not a guest's; guests have 3 to 4294967294", c)
		}
		p, err := number("port", port)
		return Addr{scheme: schemeVsock, cid: c, port: p}, err
	case "hybrid":
		colon := strings.LastIndexByte(rest, ':')
		if colon < 0 {
			return Addr{}, errors.New("no port; use hybrid:///path.sock:PORT")
		}
		p, err := number("port", rest[colon+1:])
		if err != nil {
			return Addr{}, err
		}
		return Addr{scheme: schemeHybrid, path: rest[:colon], port: p}, checkPath(rest[:colon])
	}
	return Addr{}, fmt.Errorf("unknown scheme %q; %s", name, formats)
}

// number reads a decimal without sign or leading zeros, so that an address has
// one spelling only. The highest value is vsock's wildcard.
func number(what, s string) (uint32, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil || s != strconv.FormatUint(v, 10) || what == "port" && v == math.MaxUint32 {
		return 0, fmt.Errorf("%s %q is not a decimal number below 4294967295", what, s)
	}
	return uint32(v), nil
}

func checkPath(p string) error {
	switch {
	case !path.IsAbs(p):
		return fmt.Errorf("socket path %q is not absolute", p)
	case strings.IndexByte(p, 0) >= 0:
		return errors.New("socket path has a zero byte in it")
	case len(p) > maxPath:
		return fmt.Errorf("socket path has %d bytes, but a Unix socket takes at most %d; use a shorter directory", len(p), maxPath)
	}
	return nil
}

// String is the form that ParseAddr reads.
func (a Addr) String() string {
	switch a.scheme {
	case schemeUnix:
		return "unix://" + a.path
	case schemeVsock:
		return fmt.Sprintf("vsock://%d:%d", a.cid, a.port)
	case schemeHybrid:
		return fmt.Sprintf("hybrid://%s:%d", a.path, a.port)
	}
	return ""
}
