// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stacklok/waggle/host/guest"
)

const (
	// requestBytes is about what a client writes to start an exec.
	requestBytes = 600
	// messageBytes is more than the largest piece of output in one message. What
	// arrives of a message that is cut is of no use.
	messageBytes = 144 << 10
)

var errCut = errors.New("the test cuts the connection")

// cutter dials connections that break at random, as often as it is told to; the
// ones after those last.
type cutter struct {
	dial guest.DialFunc
	mean int64 // bytes that a connection lives for

	mu   sync.Mutex
	rand *rand.Rand
	left int
	made int
	cuts int
}

// newCutter spreads the cuts over total bytes, so that all of them find a stream.
func newCutter(t *testing.T, dial guest.DialFunc, cuts, total int) *cutter {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed of the cuts: %d", seed)
	return &cutter{dial: dial, mean: int64(total / cuts * 10 / 16), rand: rand.New(rand.NewPCG(seed, 0)), left: cuts}
}

// Dial is a guest.DialFunc. Of three connections the first breaks in what the client
// writes, the others in what it reads, the last of them after a message at least: a
// client gives up when it gets nowhere.
func (c *cutter) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return conn, nil
	}
	c.left--
	cut := &cutConn{Conn: conn, owner: c, reads: c.rand.Int64N(2 * c.mean), writes: 1 << 62}
	switch c.made % 3 {
	case 0:
		cut.writes = c.rand.Int64N(requestBytes)
	case 2:
		cut.reads += messageBytes
	}
	c.made++
	return cut, nil
}

func (c *cutter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts
}

// cutConn breaks when one of its budgets is used up. Read and Write have one
// caller each.
type cutConn struct {
	net.Conn
	owner         *cutter
	reads, writes int64
	once          sync.Once
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.reads == 0 {
		return 0, c.cut()
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.reads)])
	c.reads -= int64(n)
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	if c.writes >= int64(len(p)) {
		n, err := c.Conn.Write(p)
		c.writes -= int64(n)
		return n, err
	}
	n, err := c.Conn.Write(p[:c.writes])
	if err == nil {
		err = c.cut()
	}
	return n, err
}

// cut closes the socket under the client, with what is in it.
func (c *cutConn) cut() error {
	c.once.Do(func() {
		_ = c.Close()
		c.owner.mu.Lock()
		defer c.owner.mu.Unlock()
		c.owner.cuts++
	})
	return errCut
}
