// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// defaultPath is what commands get where the image has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Finding is one part of a Report.
type Finding struct {
	// Name of what was looked at.
	Name string `json:"name"`
	// Missing: the contract asks for it, and it is not as it must be.
	Missing bool `json:"missing"`
	// Text is what was found, with the remedy where there is one.
	Text string `json:"text"`
}

// Report says what an image is for Waggle.
type Report struct {
	Ref    string        `json:"ref"`
	Digest digest.Digest `json:"digest"`
	Arch   string        `json:"arch"`
	// Fulfilled: it brings a guestd that this waggle hands over to.
	Fulfilled bool `json:"fulfilled"`
	// Runs: it becomes an environment on a host of its architecture, with its own
	// guestd or the host's.
	Runs     bool      `json:"runs"`
	Findings []Finding `json:"findings"`
}

// Missing lists the names of what is missing.
func (r *Report) Missing() []string {
	var names []string
	for _, f := range r.Findings {
		if f.Missing {
			names = append(names, f.Name)
		}
	}
	return names
}

// checker looks at one image.
type checker struct {
	img      *Image
	files    *tree
	min, max uint32 // protocol range of this waggle
	report   *Report
}

// Check says whether an image of the store fulfils the contract of a baked image for
// a waggle that speaks the protocol range from lowest to highest.
func (img *Image) Check(ctx context.Context, lowest, highest uint32) (*Report, error) {
	files, err := img.readTree(ctx, map[string]int64{
		GuestdPath[1:]: maxGuestd + 1, GuestdInfo[1:]: maxDocument,
		"etc/passwd": maxDocument, "etc/group": maxDocument,
	})
	if err != nil {
		return nil, fmt.Errorf("check %q: %w", img.Ref, err)
	}
	c := &checker{img: img, files: files, min: lowest, max: highest, report: &Report{
		Ref: img.Ref, Digest: img.Digest, Arch: img.Arch,
	}}
	_, known := machines[img.Arch]
	c.report.Runs = known && img.OS == "linux"
	c.architecture()
	c.labels(c.info(c.binary()))
	c.programs()
	c.user()
	c.workdir()
	c.trust()
	c.report.Fulfilled = len(c.report.Missing()) == 0
	return c.report, nil
}

func (c *checker) good(name, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{Name: name, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) missing(name, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, Finding{Name: name, Missing: true, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) architecture() {
	platform := c.img.OS + "/" + c.img.Arch
	switch {
	case !c.report.Runs:
		c.missing("architecture", "%s: guests are linux/%s", platform, strings.Join(slices.Sorted(maps.Keys(machines)), " or linux/"))
	case c.img.Arch != runtime.GOARCH:
		c.good("architecture", "%s, which this host, linux/%s, does not run", platform, runtime.GOARCH)
	default:
		c.good("architecture", "%s", platform)
	}
}

// searchPath is the PATH of commands.
func (c *checker) searchPath() string {
	found := defaultPath
	for _, kv := range c.img.Config.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			found = v
		}
	}
	return found
}

// programs tells of what is there. None of it is asked for.
func (c *checker) programs() {
	for _, kind := range []struct {
		name  string
		names []string
		none  string
	}{
		{"shell", []string{"bash", "sh", "ash"}, "none: commands run by program and arguments, scripts do not"},
		{"interpreters", []string{"python3", "python", "node"}, "none of python3, python, node"},
		{"package managers", []string{"pip3", "pip", "npm", "apt-get", "apk", "dnf"}, "none that install_packages knows"},
	} {
		var found []string
		for _, name := range kind.names {
			if at := c.files.program(name, c.searchPath()); at != "" {
				found = append(found, at)
			}
		}
		if len(found) == 0 {
			c.good(kind.name, "%s", kind.none)
			continue
		}
		c.good(kind.name, "%s", strings.Join(found, ", "))
	}
}

// trust looks for the certificates that TLS programs read. A machine gets the host's
// in any case.
func (c *checker) trust() {
	for _, file := range []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem",
	} {
		if _, _, ok := c.files.find(file); ok {
			c.good("trust store", "%s", file)
			return
		}
	}
	c.good("trust store", "none: machines get the host's certificates as /etc/ssl/certs/ca-certificates.crt")
}
