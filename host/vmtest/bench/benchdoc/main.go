// SPDX-License-Identifier: Apache-2.0

// Command benchdoc writes docs/benchmarks.md from the output of `go test -bench`:
//
//	benchdoc -out docs/benchmarks.md RESULTS
//
// rows.go says which metrics become which rows, and their budgets.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("out", "", "file to write")
	flag.Parse()
	if flag.NArg() != 1 || *out == "" {
		fmt.Fprintln(os.Stderr, "usage: benchdoc -out FILE RESULTS")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *out); err != nil {
		fmt.Fprintln(os.Stderr, "benchdoc:", err)
		os.Exit(1)
	}
}

func run(in, out string) error {
	file, err := os.Open(in)
	if err != nil {
		return err
	}
	defer file.Close()
	res, err := read(file, in)
	if err != nil {
		return err
	}
	doc, err := render(res, tables)
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(doc), 0o644)
}
