// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
)

// doctorCmd says what is missing on this machine and how to mend it.
type doctorCmd struct {
	dataFlags
	Kernel    string `help:"Guest kernel. Default: the one that task kernel prepared." env:"WAGGLE_KERNEL" placeholder:"PATH"`
	GuestdDir string `help:"Directory of guestd-linux-ARCH. Default: the one of waggle." env:"WAGGLE_GUESTD_DIR" placeholder:"DIR"`
	JSON      bool   `help:"Print JSON."`
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

// errUnfit makes the exit code 1 after the findings were printed.
var errUnfit = errors.New("this machine cannot run environments yet: see the remedies above")

// Run prints all findings and fails if one of them is missing.
func (c *doctorCmd) Run(ctx context.Context) error {
	findings := c.examine(ctx)
	if err := c.print(findings); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Status == statusMissing {
			return errUnfit
		}
	}
	return nil
}

func (c *doctorCmd) print(findings []finding) error {
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(findings)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Status, f.Check, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(w, "\t\tremedy: %s\n", f.Remedy)
		}
	}
	return w.Flush()
}
