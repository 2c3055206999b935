// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command init is the guest of the real-VM tests: it loads the modules, dials
// the host with a report of what it found, and serves port 1024, where each
// connection is one command.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

func main() {
	fmt.Println("init: up")
	if err := run(); err != nil {
		fmt.Println("init:", err)
	}
	// The end of PID 1 is a kernel panic, which the test sees.
}

func run() error {
	modules, err := filepath.Glob("/lib/waggle/modules/*.ko")
	if err != nil {
		return err
	}
	for _, path := range modules {
		if err := load(path); err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	for _, m := range []struct{ fs, dir string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	listener, err := vsock.ListenContextID(unix.VMADDR_CID_ANY, 1024, nil)
	if err != nil {
		return err
	}
	ready, err := vsock.Dial(vsock.Host, 1025, nil)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(ready, "ready %s\n", report()); err != nil {
		return err
	}
	if err := ready.Close(); err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := serve(conn); err != nil {
			return err
		}
	}
}

func load(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.FinitModule(int(file.Fd()), "", 0)
}

// report names the block devices with size and mode, and the network's address.
func report() string {
	var words []string
	for _, pattern := range []string{"/sys/block/vd*/size", "/sys/block/vd*/ro", "/sys/class/net/eth*/address"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			words = append(words, filepath.Base(filepath.Dir(path))+"="+strings.TrimSpace(string(data)))
		}
	}
	return strings.Join(words, " ")
}

// serve runs one command; an error ends PID 1.
func serve(conn io.ReadWriteCloser) error {
	defer conn.Close()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return nil
	}
	switch command, arg, _ := strings.Cut(strings.TrimSpace(line), " "); command {
	case "echo":
		_, _ = fmt.Fprintln(conn, arg)
	case "write": // to the second disk
		err := os.WriteFile("/dev/vdb", []byte(arg), 0)
		_, _ = fmt.Fprintln(conn, "written", err)
	case "cat":
		data, err := os.ReadFile(arg)
		_, _ = fmt.Fprintf(conn, "%s%v\n", data, err)
	case "poweroff":
		return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case "panic":
		return fmt.Errorf("told to panic")
	}
	return nil
}
