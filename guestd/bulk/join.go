// SPDX-License-Identifier: Apache-2.0

package bulk

import (
	"encoding/binary"
	"net/http"
	"strings"
)

const (
	// prefixSize is the length of what stands in front of each message of a
	// stream: flags, and the message's length in 4 bytes.
	prefixSize = 5
	// Messages outside of these sizes are not joined, in bytes: net/http joins
	// small ones itself, and large ones would need as much memory again.
	minJoined = 4 << 10
	maxJoined = 512 << 10
)

// Join returns a handler that hands each message of a stream to net/http in one
// piece with its prefix. Connect writes them apart, and net/http makes a frame of
// each piece, and one more of the beginning of the second: three turns of its
// loop, three writes to the socket, where one does.
func Join(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		j := &joiner{ResponseWriter: w}
		next.ServeHTTP(j, r)
		_ = j.release() // an error is the connection's end
	})
}

type joiner struct {
	http.ResponseWriter
	prefix [prefixSize]byte
	held   bool // prefix is yet to be written
}

// Unwrap is for http.ResponseController.
func (j *joiner) Unwrap() http.ResponseWriter { return j.ResponseWriter }

// Flush implements http.Flusher.
func (j *joiner) Flush() {
	_ = j.release() // the next write fails too
	if f, ok := j.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Write holds a prefix back until its message comes.
func (j *joiner) Write(p []byte) (int, error) {
	if !j.held {
		if !j.isPrefix(p) {
			return j.ResponseWriter.Write(p)
		}
		copy(j.prefix[:], p)
		j.held = true
		return len(p), nil
	}
	if uint32(len(p)) != binary.BigEndian.Uint32(j.prefix[1:]) {
		if err := j.release(); err != nil {
			return 0, err
		}
		return j.ResponseWriter.Write(p)
	}
	j.held = false
	buf := append(append(get(prefixSize+len(p)), j.prefix[:]...), p...)
	n, err := j.ResponseWriter.Write(buf)
	if err == nil {
		Release(buf) // after an error net/http may still be reading it
	}
	return max(n-prefixSize, 0), err
}

// isPrefix says whether p is the prefix of a message that is worth joining.
func (j *joiner) isPrefix(p []byte) bool {
	if len(p) != prefixSize {
		return false
	}
	size := binary.BigEndian.Uint32(p[1:])
	kind := j.Header().Get("Content-Type")
	return size >= minJoined && size <= maxJoined &&
		(strings.HasPrefix(kind, "application/connect+") || strings.HasPrefix(kind, "application/grpc"))
}

// release writes a prefix that was held.
func (j *joiner) release() error {
	if !j.held {
		return nil
	}
	j.held = false
	_, err := j.ResponseWriter.Write(j.prefix[:])
	return err
}
