// SPDX-License-Identifier: Apache-2.0

// Command guest is the only program of the image that the tests boot.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return nil
	}
	switch args[0] {
	case "say": // words to stdout, and to stderr
		fmt.Println(strings.Join(args[1:], " "))
		fmt.Fprintln(os.Stderr, "said")
	case "exit":
		code, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "wait": // until a signal ends it
		fmt.Println("waiting")
		return syscall.Pause()
	}
	return nil
}
