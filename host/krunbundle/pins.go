// SPDX-License-Identifier: Apache-2.0

package krunbundle

import (
	"bufio"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
)

// maxSums bounds a file of checksums, in bytes.
const maxSums = 64 << 10

//go:embed pins.json
var pinned []byte

// ErrNotPinned is an archive whose checksum nobody has named. It is not fetched.
var ErrNotPinned = errors.New("no checksum is pinned")

// Pins are the release to fetch, and what its archives must be.
type Pins struct {
	// Release is go-microvm's.
	Release string `json:"release"`
	// Krun and Firmware are the versions in it.
	Krun     string `json:"libkrun"`
	Firmware string `json:"libkrunfw"`
	// URL is where the maintainers publish the archives.
	URL string `json:"url"`
	// SHA256 has the checksum of each archive in hexadecimal; empty where it is
	// not known.
	SHA256 map[string]string `json:"sha256"`
}

// Pinned are the pins of this build.
func Pinned() (Pins, error) {
	var p Pins
	if err := json.Unmarshal(pinned, &p); err != nil {
		return Pins{}, fmt.Errorf("read pins.json: %w", err)
	}
	return p, nil
}

// archive is one file of a release, with the checksum it must have.
type archive struct {
	name, sha256 string
	// files are what is taken of it: names in the archive, and as what they are
	// kept.
	files map[string]string
}

// archives are the two of a platform. Where Linux's files have versions in their
// names and links without, so have these: krun.Find reads the version there.
func (p Pins) archives(goos, goarch string) ([]archive, error) {
	suffix := goos + "-" + goarch + ".tar.gz"
	runtime, firmware := archive{name: "go-microvm-runtime-" + suffix}, archive{name: "go-microvm-firmware-" + suffix}
	switch goos + "/" + goarch {
	case "linux/amd64", "linux/arm64":
		runtime.files = map[string]string{"libkrun.so.1": "libkrun.so." + p.Krun}
		firmware.files = map[string]string{"libkrunfw.so.5": "libkrunfw.so." + p.Firmware}
	case "darwin/arm64":
		// What libkrun was built against there is in the archive too. Its version
		// is not the release's to say: it is Homebrew's of that day.
		runtime.files = same("libkrun.1.dylib", "libepoxy.0.dylib", "libvirglrenderer.1.dylib", "libMoltenVK.dylib")
		firmware.files = same("libkrunfw.5.dylib")
	default:
		return nil, fmt.Errorf("go-microvm publishes no libkrun for %s/%s: it does for linux/amd64, linux/arm64 and darwin/arm64", goos, goarch)
	}
	firmware.files["LICENSE-GPL"] = "LICENSE-GPL" // the kernel's
	all := []archive{runtime, firmware}
	for i := range all {
		a := &all[i]
		a.sha256 = p.SHA256[a.name]
		if a.sha256 == "" {
			return nil, p.notPinned(a.name)
		}
		if sum, err := hex.DecodeString(a.sha256); err != nil || len(sum) != 32 {
			return nil, fmt.Errorf("the pinned checksum of %s is no SHA-256 in hexadecimal: %.80q", a.name, a.sha256)
		}
	}
	return all, nil
}

func (p Pins) notPinned(name string) error {
	return fmt.Errorf("%w for %s of go-microvm %s, and nothing is installed unverified: get %s/sha256sums.txt, "+
		"see that it is what the maintainers published, and give it with --sums (WAGGLE_KRUN_SUMS), "+
		"or put its sums into host/krunbundle/pins.json", ErrNotPinned, name, p.Release, strings.TrimSuffix(p.URL, "/"))
}

// With adds the sums of a file as sha256sum writes it. What is pinned already
// cannot be changed by that.
func (p Pins) With(sums io.Reader) (Pins, error) {
	p.SHA256 = maps.Clone(p.SHA256)
	for lines := bufio.NewScanner(io.LimitReader(sums, maxSums)); lines.Scan(); {
		sum, name, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		name = strings.TrimLeft(name, " *")
		have, known := p.SHA256[name]
		switch {
		case !ok || !known:
			continue
		case have != "" && !strings.EqualFold(have, sum):
			return Pins{}, fmt.Errorf("the sums say that %s has SHA-256 %.80q, but %s is pinned", name, sum, have)
		}
		p.SHA256[name] = sum
	}
	return p, nil
}

func same(names ...string) map[string]string {
	m := map[string]string{}
	for _, n := range names {
		m[n] = n
	}
	return m
}
