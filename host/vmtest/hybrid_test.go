// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// hybrid listens as Firecracker and Cloud Hypervisor do and carries what is said
// after CONNECT 1024 to the plain socket guestd. It ends with the test.
func hybrid(t *testing.T, guestd string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "v.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _ = l.Close() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() {
				if err := carry(conn, guestd); err != nil {
					t.Errorf("hybrid socket: %v", err)
				}
			})
		}
	})
	return path
}

// carry ends when either side closes.
func carry(conn net.Conn, guestd string) error {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil || line != "CONNECT 1024\n" {
		return fmt.Errorf("read request: %q, %w", line, err)
	}
	out, err := net.Dial("unix", guestd)
	if err != nil {
		return fmt.Errorf("dial guestd: %w", err)
	}
	defer func() { _ = out.Close() }()
	if _, err := io.WriteString(conn, "OK 1073741824\n"); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	var back sync.WaitGroup
	defer back.Wait()
	back.Go(func() {
		_, _ = io.Copy(conn, out) // ends when either goes
		_ = conn.Close()
	})
	_, _ = io.Copy(out, in) // as above
	return out.Close()
}
