// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/stacklok/waggle/host/krunbundle"
)

// fetchTimeout bounds the whole, for which a slow line needs a minute or two.
const fetchTimeout = 30 * time.Minute

// fetchKrunCmd is the task deps:krun.
type fetchKrunCmd struct {
	dataFlags

	Mirror string `name:"url" help:"Directory of the archives. Default: the release of go-microvm." env:"WAGGLE_KRUN_URL" placeholder:"URL"`
	Sums   string `help:"Checksums of the archives, as sha256sum writes them." env:"WAGGLE_KRUN_SUMS" type:"existingfile" placeholder:"FILE"`
	Quiet  bool   `short:"q" help:"Do not say what is being done."`
}

// Run installs libkrun and libkrunfw where findLibraries looks first.
func (c *fetchKrunCmd) Run(ctx context.Context) error {
	pins, err := c.pins()
	if err != nil {
		return err
	}
	data, err := c.ownDataDir()
	if err != nil {
		return err
	}
	say := newProgress(os.Stderr, c.Quiet)
	fetchCtx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	dir, err := krunbundle.Install(fetchCtx, krunbundle.Options{
		Pins: pins, Mirror: c.Mirror, Dir: krunDir(data), GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, Progress: say.step,
	})
	say.done()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s\n", dir)
	return nil
}

// pins are those of the build, with those of the file that the user vouches for.
func (c *fetchKrunCmd) pins() (krunbundle.Pins, error) {
	pins, err := krunbundle.Pinned()
	if err != nil || c.Sums == "" {
		return pins, err
	}
	file, err := os.Open(c.Sums)
	if err != nil {
		return pins, fmt.Errorf("read checksums of WAGGLE_KRUN_SUMS (--sums): %w", err)
	}
	defer file.Close()
	pins, err = pins.With(file)
	if err != nil {
		return pins, fmt.Errorf("read checksums of WAGGLE_KRUN_SUMS (--sums), %s: %w", c.Sums, err)
	}
	return pins, nil
}
