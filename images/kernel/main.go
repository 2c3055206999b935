// SPDX-License-Identifier: Apache-2.0

// Command kernel prepares a guest kernel for Waggle's QEMU backend from the
// Debian cloud kernel package, without installing anything:
//
//	go run ./images/kernel -out DIR
//
// It needs no privileges. DIR/current then names the prepared kernel.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stacklok/waggle/images/kernel/prepare"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kernel:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	out := flag.String("out", "", "directory that holds prepared kernels (required)")
	pkg := flag.String("package", "", "Debian kernel package (default linux-image-cloud-<arch>)")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		return fmt.Errorf("usage: go run ./images/kernel -out DIR [-package NAME]")
	}
	start := time.Now()
	kernel, err := prepare.Prepare(ctx, prepare.Options{
		Out:     *out,
		Package: *pkg,
		Step: func(what string, took time.Duration) {
			fmt.Printf("%6.2fs  %s\n", took.Seconds(), what)
		},
	})
	if err != nil {
		return err
	}
	fmt.Printf("%6.2fs  kernel %s is ready: %s\n", time.Since(start).Seconds(), kernel.Version, kernel.Dir)
	return nil
}
