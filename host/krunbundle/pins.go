// SPDX-License-Identifier: Apache-2.0

package krunbundle

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
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

// With adds the sums of a file as sha256sum writes it; those of other files in it are
// passed over. What is pinned already cannot be changed by that. An error names the
// line.
func (p Pins) With(sums io.Reader) (Pins, error) {
	p.SHA256 = maps.Clone(p.SHA256)
	lines := bufio.NewScanner(io.LimitReader(sums, maxSums))
	named, at := 0, 1
	for ; lines.Scan(); at++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		sum, name, err := parseSum(line)
		if err != nil {
			return Pins{}, fmt.Errorf("line %d: %w", at, err)
		}
		have, known := p.SHA256[name]
		switch {
		case !known:
			continue
		case have != "" && !strings.EqualFold(have, sum):
			return Pins{}, fmt.Errorf("line %d: it says that %s has SHA-256 %s, but %s is pinned", at, name, sum, have)
		}
		p.SHA256[name] = sum
		named++
	}
	if err := lines.Err(); err != nil {
		return Pins{}, fmt.Errorf("line %d: %w", at, err)
	}
	if named == 0 {
		return Pins{}, fmt.Errorf("it has no archive of go-microvm %s, such as %s: take sha256sums.txt of that release",
			p.Release, slices.Min(slices.Collect(maps.Keys(p.SHA256))))
	}
	return p, nil
}

// parseSum reads a line of sha256sum's: a sum, a space, a space or an asterisk, and
// a name.
func parseSum(line string) (sum, name string, err error) {
	sum, name, _ = strings.Cut(line, " ")
	name = strings.TrimLeft(name, " *")
	if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size || name == "" {
		return "", "", fmt.Errorf("%.80q is not a SHA-256 in hexadecimal and a file's name, as sha256sum writes them", line)
	}
	return sum, name, nil
}

func same(names ...string) map[string]string {
	m := map[string]string{}
	for _, n := range names {
		m[n] = n
	}
	return m
}
