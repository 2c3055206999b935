// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/stacklok/waggle/host/qemu"
)

// doctorCmd says what is missing on this machine and how to mend it. It takes the
// settings of serve and run, and looks at what they would use.
type doctorCmd struct {
	vmFlags
	JSON bool `help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (doctorCmd) Help() string {
	return `Each line is ok, note (it works, but could be better) or missing, with the command that
mends it. What a backend lacks that is not used is a note. Nothing is changed. The exit
code is 1 when something is missing.

    waggle doctor
    WAGGLE_DATA_DIR=/srv/waggle waggle doctor
    waggle doctor --json | jq -r '.[] | select(.status=="missing") | .remedy'`
}

// finding is the result of one check.
type finding struct {
	Check string `json:"check"`
	// Status is ok, note (works, but could be better) or missing.
	Status string `json:"status"`
	Detail string `json:"detail"`
	// Remedy is the command that mends it.
	Remedy string `json:"remedy,omitempty"`
}

const (
	statusOK      = "ok"
	statusNote    = "note"
	statusMissing = "missing"
)

func good(check, detail string) finding { return finding{check, statusOK, detail, ""} }

func note(check, detail, remedy string) finding { return finding{check, statusNote, detail, remedy} }

func missing(check, detail, remedy string) finding {
	return finding{check, statusMissing, detail, remedy}
}

// errUnfit makes the exit code 1 after the findings were printed.
var errUnfit = errors.New("this machine cannot run environments yet: see the remedies above")

// Run prints all findings and fails if one of them is missing.
func (c *doctorCmd) Run(ctx context.Context) error {
	findings := c.examine(ctx)
	if err := c.print(os.Stdout, findings); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Status == statusMissing {
			return errUnfit
		}
	}
	return nil
}

// examine runs every check; none changes anything.
func (c *doctorCmd) examine(ctx context.Context) []finding {
	data, err := c.dataDir()
	if err != nil {
		return []finding{missing("data directory", err.Error(), "export WAGGLE_DATA_DIR=DIR")}
	}
	run, err := filepath.Abs(c.runDirPath())
	if err != nil {
		return []finding{missing("run directory", err.Error(), "export WAGGLE_RUN_DIR=DIR")}
	}
	parts := c.inspectKrun(ctx, data)
	on, err := c.decide(&parts, qemu.ProbeKVM(), runtime.GOOS)
	onKrun := on.backend == backendKrun || err != nil // then it was asked for, or there is no other
	all := []finding{checkPlatform(runtime.GOOS, runtime.GOARCH), checkChoice(on, err)}
	all = append(all, checkHypervisor(c.Accel, onKrun, parts.hypervisorErr), checkNested(runtime.GOARCH, "/proc/cpuinfo"))
	all = append(all, ofBackend(onKrun, c.examineKrun(ctx, data, &parts))...)
	if runtime.GOOS == "linux" {
		all = append(all, ofBackend(!onKrun, []finding{
			checkQEMU(ctx, c.QEMU),
			checkFeatures(ctx, c.QEMU),
			checkIdentity("QEMU", qemu.Identity),
			checkKernel(c.kernel(data), runtime.GOARCH),
		})...)
	}
	return append(all,
		checkMkfs(),
		checkCPUCount(runtime.NumCPU(), c.CPUs),
		checkMemory(meminfo, c.MemoryMB),
		checkDataDir(data),
		checkRunDir(run),
		checkGuestd(c.GuestdDir, runtime.GOARCH),
		checkCertificates(c.GuestCA),
		c.checkImages(),
		checkPolicy(c.ImagePolicy),
		checkDiskLimits(c.diskLimitFlags),
		checkImageTools(os.Geteuid()),
	)
}

// ofBackend makes notes of what a backend misses that makes no machines here.
func ofBackend(used bool, findings []finding) []finding {
	for i := range findings {
		if f := &findings[i]; !used && f.Status == statusMissing {
			f.Status, f.Detail = statusNote, "not used, and could not be: "+f.Detail
		}
	}
	return findings
}

// checkChoice says what makes machines, as a server's log does.
func checkChoice(on choice, err error) finding {
	const check = "backend"
	if err != nil {
		return missing(check, oneLine(err), "mend what is missing below, or: export WAGGLE_BACKEND=auto")
	}
	return good(check, on.String())
}

// oneLine is an error of several, for a table.
func oneLine(err error) string {
	return strings.NewReplacer(":\n", ": ", "\n", "; ").Replace(err.Error())
}

func (c *doctorCmd) print(out io.Writer, findings []finding) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(findings)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Status, f.Check, printable(f.Detail))
		if f.Remedy != "" {
			fmt.Fprintf(w, "\t\tremedy: %s\n", f.Remedy)
		}
	}
	return w.Flush()
}
