// SPDX-License-Identifier: Apache-2.0

//go:build linux

// vmm plays waggle-krun in tests: its first stage is the real one, its second
// plays libkrun and its guest. Each stream to the guest is one command.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/jail"
	"github.com/stacklok/waggle/host/krun/spec"
)

func init() { runtime.LockOSThread() }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	m, err := spec.Read(os.NewFile(spec.SpecFD, "machine"))
	if err != nil {
		return err
	}
	if len(os.Args) == 1 {
		return jail.Exec(m)
	}
	go func() {
		_, _ = os.NewFile(spec.AliveFD, "alive").Read(make([]byte, 1))
		os.Exit(3)
	}()
	// The size of the memory says how to fail.
	switch m.MemoryMiB {
	case 1:
		return fmt.Errorf("krun_add_disk2: EINVAL (invalid argument): at %s; a test", m.Disks[1].Path)
	case 2:
		select {} // the goroutine above ends it
	}
	console, err := os.OpenFile(filepath.Join(m.Dir, spec.Console), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(m.Dir, spec.GuestSocket))
	if err != nil {
		return err
	}
	report := os.NewFile(spec.ReportFD, "report")
	if err := json.NewEncoder(report).Encode(spec.Report{Confine: m.Confine, Reason: m.Reason}); err != nil {
		return err
	}
	_ = report.Close()
	fmt.Fprintln(console, "guest: up")
	if err := ready(m, "ready"); err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go serve(m, conn, console)
	}
}

// ready plays guestd's call.
func ready(m spec.Machine, text string) error {
	conn, err := net.Dial("unix", filepath.Join(m.Dir, spec.ReadySocket))
	if err != nil {
		return err
	}
	fmt.Fprintln(conn, text)
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}()
	return nil
}

func serve(m spec.Machine, conn net.Conn, console io.Writer) {
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	command, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch command {
	case "echo":
		fmt.Fprintln(conn, rest)
	case "console":
		fmt.Fprintln(console, rest)
	case "machine":
		_ = json.NewEncoder(conn).Encode(m)
	case "look":
		_ = json.NewEncoder(conn).Encode(look())
	case "try":
		var paths []string
		_ = json.Unmarshal([]byte(rest), &paths)
		_ = json.NewEncoder(conn).Encode(try(paths))
	case "write":
		fmt.Fprintln(conn, os.WriteFile(m.Disks[len(m.Disks)-1].Path, []byte(rest), 0))
	case "become":
		fmt.Fprintln(conn, unix.Setuid(0), unix.Mount("x", "/", "tmpfs", 0, ""), unix.Mknod(m.Temp+"/n", unix.S_IFCHR, int(unix.Mkdev(1, 3))))
	case "swap": // a VMM that was taken over
		socket := filepath.Join(m.Dir, spec.GuestSocket)
		fmt.Fprintln(conn, os.Remove(socket), os.Symlink(rest, socket))
	case "die":
		fmt.Fprintln(os.Stderr, "[2026-02-09T12:00:00Z ERROR krun] "+rest)
		os.Exit(1)
	case "end":
		os.Exit(0)
	}
}

// surroundings are what the process sees of the world.
type surroundings struct {
	Files, Mounts, Interfaces, Processes, Env []string
	Status                                    map[string]string
	Descriptors                               []string
	Umask                                     int
	Core                                      uint64
}

func look() surroundings {
	s := surroundings{Status: map[string]string{}, Env: os.Environ()}
	_ = filepath.WalkDir("/", func(path string, _ os.DirEntry, err error) error {
		if path == "/proc" || err != nil {
			return filepath.SkipDir
		}
		s.Files = append(s.Files, path)
		return nil
	})
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		s.Mounts = append(s.Mounts, fields[1]+" "+fields[3])
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		s.Status[key] = strings.Join(strings.Fields(value), " ")
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		s.Interfaces = append(s.Interfaces, fmt.Sprint(i.Name, " ", i.Flags&net.FlagUp != 0))
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		s.Processes = append(s.Processes, e.Name())
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		s.Descriptors = append(s.Descriptors, to)
	}
	s.Umask = unix.Umask(0o77)
	var core unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &core)
	s.Core = core.Max
	return s
}

// try opens each path for reading and for writing, and says what came of it.
func try(paths []string) map[string]string {
	got := map[string]string{}
	for _, path := range paths {
		var words []string
		for _, flags := range []int{os.O_RDONLY, os.O_WRONLY} {
			f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
			if err == nil {
				_ = f.Close()
				words = append(words, "yes")
				continue
			}
			errno, _ := err.(*os.PathError).Err.(unix.Errno)
			words = append(words, unix.ErrnoName(errno))
		}
		got[path] = strings.Join(words, " ")
	}
	return got
}
