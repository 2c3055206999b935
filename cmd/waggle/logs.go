// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/stacklok/waggle/host/supervisor"
)

// logsCmd prints the console of an environment, living or dead.
type logsCmd struct {
	runDirFlags
	Supervisor bool   `help:"Print the log of its supervisor instead."`
	ID         string `arg:"" help:"The environment, or the beginning of its id."`
}

// Help implements kong.HelpProvider.
func (logsCmd) Help() string {
	return `What the kernel and guestd say goes to the console; it is kept while the directory of
the environment exists, also after a crash, and shortened in the middle when it grows long.

    waggle logs env-ab
    waggle logs --supervisor env-ab   # the host's side: each step of the boot, and the end`
}

// Run prints the log. A terminal gets it without control characters, because the
// guest wrote it.
func (c *logsCmd) Run() error {
	found, err := c.find(c.ID)
	if err != nil {
		return err
	}
	path := supervisor.ConsolePath(found.Dir)
	if c.Supervisor {
		path = supervisor.LogPath(found.Dir)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("environment %s has no log yet", found.ID)
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = f.Close() }()
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return copyPrintable(os.Stdout, f)
	}
	if _, err := io.Copy(os.Stdout, f); err != nil {
		return fmt.Errorf("print log: %w", err)
	}
	return nil
}

func copyPrintable(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		// A line longer than the buffer comes in pieces.
		line, err := in.ReadSlice('\n')
		if _, werr := io.WriteString(w, supervisor.Printable(string(line))); werr != nil {
			return fmt.Errorf("print log: %w", werr)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("read log: %w", err)
		}
	}
}

// printable makes one line that a terminal only prints.
func printable(s string) string {
	return strings.ReplaceAll(supervisor.Printable(s), "\n", " ")
}
