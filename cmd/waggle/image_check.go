// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/proto"
)

// imageCheckCmd says what an image is for Waggle.
type imageCheckCmd struct {
	dataFlags
	fetchFlags
	Ref  string `arg:"" help:"The image: a name in the store, or a reference that is pulled."`
	Arch string `help:"Architecture as Go names it. Default: this machine's."`
	JSON bool   `help:"Print JSON."`
}

// Help implements kong.HelpProvider.
func (imageCheckCmd) Help() string {
	return `A baked image brings a guestd that this waggle hands over to. An image that does not is
an environment all the same, with the host's guestd; WAGGLE_GUESTD=baked asks for one.

    waggle image check mine/tools
    waggle image check --json docker://quay.io/team/app:v1 | jq .findings

The exit code is 0 when nothing is missing, 1 when something is.`
}

// Validate implements kong's interface.
func (c *imageCheckCmd) Validate() error { return c.check() }

// Run prints the findings.
func (c *imageCheckCmd) Run(ctx context.Context) error {
	store, err := c.openStore()
	if err != nil {
		return err
	}
	say := newProgress(os.Stderr, false)
	defer say.done()
	opts := c.resolve()
	opts.Arch, opts.Progress = c.Arch, pullSteps(say.step)
	img, err := store.Resolve(ctx, c.Ref, opts)
	if err != nil {
		return fmt.Errorf("check image: %w", err)
	}
	say.step("reading layers")
	report, err := img.Check(ctx, proto.GuestProtocolMin, proto.GuestProtocolMax)
	if err != nil {
		return fmt.Errorf("check image: %w", err)
	}
	say.done()
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(report)
	} else {
		err = printReport(os.Stdout, report)
	}
	if err != nil || report.Fulfilled {
		return err
	}
	return fmt.Errorf("%s does not fulfil the contract of a baked image: %s", img.Ref, strings.Join(report.Missing(), ", "))
}

// printReport prints a line for each finding. The image's maker wrote part of it.
func printReport(out io.Writer, r *image.Report) error {
	fmt.Fprintf(out, "%s %s\n", printable(r.Ref), r.Digest)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		mark := "ok"
		if f.Missing {
			mark = "missing"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.Name, printable(f.Text))
	}
	return w.Flush()
}
