// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// maxReply bounds the answer to CONNECT in bytes, line feed included: "OK "
// and a 32-bit number take 14.
const maxReply = 64

// connect asks the VMM for a stream to port: "CONNECT port\n", answered by
// "OK hostport\n" or by the end of the connection.
func connect(ctx context.Context, conn net.Conn, port uint32) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err := fmt.Fprintf(conn, "CONNECT %d\n", port)
	var reply string
	if err == nil {
		reply, err = readReply(conn)
	}
	// After a failed stop the deadline is set, or about to be.
	if !stop() {
		return fmt.Errorf("CONNECT %d: %w", port, context.Cause(ctx))
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("CONNECT %d: the VMM hung up: nothing in the guest listens on that port", port)
	}
	if err != nil {
		return fmt.Errorf("CONNECT %d: %w", port, err)
	}
	if err := checkReply(reply); err != nil {
		return fmt.Errorf("CONNECT %d: %w", port, err)
	}
	return nil
}

// readReply reads up to the line feed, one byte at a time: what follows it is
// the guest's and must stay in the socket.
func readReply(r io.Reader) (string, error) {
	var line [maxReply]byte
	for i := range line {
		if _, err := io.ReadFull(r, line[i:i+1]); err != nil {
			return "", err
		}
		if line[i] == '\n' {
			return string(line[:i]), nil
		}
	}
	return "", fmt.Errorf("no line end in the first %d bytes of the reply %q: is this a VMM's vsock socket?", maxReply, line[:])
}

func checkReply(reply string) error {
	port, ok := strings.CutPrefix(reply, "OK ")
	if !ok {
		return fmt.Errorf("reply %q is not OK: is this a VMM's vsock socket?", reply)
	}
	if _, err := strconv.ParseUint(port, 10, 32); err != nil {
		return fmt.Errorf("reply %q names no port: is this a VMM's vsock socket?", reply)
	}
	return nil
}
