// SPDX-License-Identifier: Apache-2.0

// Command guest is the only program of the image that the tests boot.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
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
	case "trap": // until it has told of a signal
		got := make(chan os.Signal, 1)
		signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
		fmt.Println("waiting")
		fmt.Println(<-got)
		os.Exit(5)
	case "flood": // numbered lines, so many bytes and a few more
		size, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return flood(os.Stdout, size)
	case "show": // a file
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, f)
		return err
	}
	return nil
}

func flood(w io.Writer, size int) error {
	out := bufio.NewWriterSize(w, 64<<10)
	for n, i := 0, 0; n < size; i++ {
		k, err := fmt.Fprintf(out, "%d\n", i)
		if err != nil {
			return err
		}
		n += k
	}
	return out.Flush()
}
