// SPDX-License-Identifier: Apache-2.0

// Command containerfile prints the instructions of a Containerfile as BuildKit's parser
// reads them, as JSON, for tests. It is a module of its own: its modules are none of the
// product's.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// instruction is one of a Containerfile. Args are words, key and value in turn for ENV
// and LABEL, and one text for RUN.
type instruction struct {
	Name  string
	Flags []string
	Args  []string
}

func main() {
	if err := show(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func show(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open Containerfile: %w", err)
	}
	parsed, err := parser.Parse(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read Containerfile: %w", err)
	}
	var all []instruction
	for _, node := range parsed.AST.Children {
		i := instruction{Name: node.Value, Flags: node.Flags}
		for arg := node.Next; arg != nil; arg = arg.Next {
			i.Args = append(i.Args, arg.Value)
		}
		all = append(all, i)
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}
