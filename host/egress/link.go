// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// maxFrame is an Ethernet header and the largest IPv4 packet. A greater
	// length is no frame: the stream has lost its place or means harm.
	maxFrame = header.EthernetMinimumSize + 65535
	// batch is how much is written to the VMM at once, in bytes.
	batch = 64 << 10
)

// receive carries the guest's frames into the stack until the link ends, and
// ends the network with it.
func (n *Network) receive(conn *net.UnixConn) {
	defer n.cancel()
	defer conn.Close()
	err := readFrames(conn, func(frame []byte) {
		if !admit(frame) {
			return
		}
		// The packet has its own copy of the frame.
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
		n.endpoint.InjectInbound(0, pkt) // the frame itself tells the protocol
		pkt.DecRef()
	})
	switch {
	case n.ctx.Err() != nil, errors.Is(err, io.EOF):
	default:
		n.log.Warn("network of the vm ended", "err", err)
	}
}

// readFrames calls frame for each frame of r until r ends; io.EOF is an end
// between two frames. The slice is valid during the call only.
func readFrames(r io.Reader, frame func([]byte)) error {
	buffered := bufio.NewReaderSize(r, batch)
	buf := make([]byte, maxFrame)
	var length [4]byte
	for {
		if _, err := io.ReadFull(buffered, length[:]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(length[:])
		if size > maxFrame {
			return fmt.Errorf("read frame: length %d is above %d", size, maxFrame)
		}
		if _, err := io.ReadFull(buffered, buf[:size]); err != nil {
			return fmt.Errorf("read frame of %d bytes: %w", size, io.ErrUnexpectedEOF)
		}
		frame(buf[:size])
	}
}

// send carries the stack's frames to the guest. A guest that does not read
// stops this goroutine alone: the stack drops what finds the queue full.
func (n *Network) send(conn *net.UnixConn) {
	defer conn.Close() // wakes receive
	out := make([]byte, 0, batch)
	for {
		pkt := n.endpoint.ReadContext(n.ctx)
		// What is queued already goes out in the same write.
		for ; pkt != nil; pkt = n.endpoint.Read() {
			out = appendFrame(out, pkt)
			pkt.DecRef()
			if cap(out)-len(out) < 4+maxSent {
				break
			}
		}
		if n.ctx.Err() != nil {
			return
		}
		if _, err := conn.Write(out); err != nil {
			if n.ctx.Err() == nil && !errors.Is(err, syscall.EPIPE) {
				n.log.Warn("network of the vm ended", "err", err)
			}
			return
		}
		out = out[:0]
	}
}

// maxSent is more than the stack puts into one frame, whose payload is its MTU
// at most.
const maxSent = 2048

func appendFrame(out []byte, pkt *stack.PacketBuffer) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(pkt.Size()))
	for _, part := range pkt.AsSlices() {
		out = append(out, part...)
	}
	return out
}

// socketPair returns the two ends of a connection between Unix stream sockets.
func socketPair() (a, b *net.UnixConn, err error) {
	// macOS has no SOCK_CLOEXEC: hold off forks until both are marked.
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	a, err = unixConn(fds[0])
	if err != nil {
		_ = syscall.Close(fds[1])
		return nil, nil, err
	}
	b, err = unixConn(fds[1])
	if err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// unixConn takes fd over, also when it fails.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "network")
	defer f.Close() // FileConn has a descriptor of its own
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("socket is a %T", c)
	}
	return conn, nil
}
