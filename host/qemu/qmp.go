// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// maxQMPLine bounds one message from QEMU; those we ask for have some 100 bytes.
const maxQMPLine = 64 << 10

// resumeTimeout bounds the writing of a command; QEMU reads at once unless it
// hangs.
const resumeTimeout = 5 * time.Second

// qmp is QEMU's control channel. It tells that QEMU has built the machine, that
// the host's disk is full and the guest waits for that, and why the guest went
// down. The power is cut by a signal, and an orderly shutdown is guestd's business.
type qmp struct {
	conn net.Conn
	r    *bufio.Reader
	// shutdown is the reason that the last SHUTDOWN event gave.
	shutdown string
	// paused hears of pauses for want of disk space. May be nil.
	paused func(bool)
}

type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Reason  string `json:"reason"`
		Action  string `json:"action"`
		NoSpace bool   `json:"nospace"`
	} `json:"data"`
}

func newQMP(conn net.Conn) *qmp {
	return &qmp{conn: conn, r: bufio.NewReaderSize(conn, maxQMPLine)}
}

// negotiate returns when QEMU runs its main loop, so that all of its command
// line has been accepted: the greeting comes before that, an answer does not.
func (q *qmp) negotiate(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = q.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	greeting, err := q.read()
	if err != nil {
		return fmt.Errorf("read QMP greeting: %w", err)
	}
	if greeting.QMP == nil {
		return errors.New("read QMP greeting: not a QMP server")
	}
	for _, command := range []string{"qmp_capabilities", "query-status"} {
		if err := q.execute(command); err != nil {
			return fmt.Errorf("execute QMP %s: %w", command, err)
		}
	}
	return nil
}

// execute runs a command without arguments and drops its result.
func (q *qmp) execute(command string) error {
	if _, err := fmt.Fprintf(q.conn, "{\"execute\":%q}\n", command); err != nil {
		return err
	}
	for {
		m, err := q.read()
		if err != nil {
			return err
		}
		if m.Error != nil {
			return errors.New(m.Error.Desc)
		}
		if m.Return != nil {
			return nil
		}
	}
}

// watch reads until QEMU closes the channel.
func (q *qmp) watch() {
	for {
		if _, err := q.read(); err != nil {
			return
		}
	}
}

// read returns the next message. Only one goroutine may read at a time.
func (q *qmp) read() (qmpMessage, error) {
	line, err := q.r.ReadSlice('\n')
	if err != nil {
		return qmpMessage{}, err
	}
	var m qmpMessage
	if err := json.Unmarshal(line, &m); err != nil {
		return qmpMessage{}, fmt.Errorf("decode QMP message: %w", err)
	}
	switch {
	case m.Event == "SHUTDOWN":
		q.shutdown = m.Data.Reason
	case q.paused == nil:
	case m.Event == "BLOCK_IO_ERROR" && m.Data.NoSpace && m.Data.Action == "stop":
		q.paused(true)
	case m.Event == "RESUME":
		q.paused(false)
	}
	return m, nil
}

// resume asks QEMU to let the guest go on. The answer is an event, which watch
// reads.
func (q *qmp) resume() error {
	if err := q.conn.SetWriteDeadline(time.Now().Add(resumeTimeout)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(q.conn, `{"execute":"cont"}`)
	return err
}
