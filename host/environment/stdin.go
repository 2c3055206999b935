// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"io"
	"strings"
	"sync"
)

// once is the standard input of an execution, which gets it once: a reader that waits
// until it is known that the execution is new, and waits for ever if it is not. Then
// another call has written the input, and who closed it could cut that short.
type once struct {
	from *strings.Reader
	open func()
	shut func()

	released, closed chan struct{}
}

func newOnce(text string) *once {
	o := &once{from: strings.NewReader(text), released: make(chan struct{}), closed: make(chan struct{})}
	o.open = sync.OnceFunc(func() { close(o.released) })
	o.shut = sync.OnceFunc(func() { close(o.closed) })
	return o
}

// Read implements io.Reader.
func (o *once) Read(p []byte) (int, error) {
	select {
	case <-o.released:
		return o.from.Read(p)
	case <-o.closed:
		return 0, io.ErrClosedPipe
	}
}

// release lets the input go to the execution.
func (o *once) release() { o.open() }

// close ends a Read that waits.
func (o *once) close() { o.shut() }
