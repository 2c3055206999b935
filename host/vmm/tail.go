// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"strings"
	"sync"
)

// maxTail bounds what is kept of a VMM's standard error.
const maxTail = 4 << 10

// Tail keeps the end of what is written to it. Its methods may be called
// concurrently.
type Tail struct {
	short func(line string) string // may be nil

	mu   sync.Mutex
	data []byte
	cut  bool
}

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p[max(0, len(p)-maxTail):]...)
	if over := len(t.data) - maxTail; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// String is the text on one line, each line of it shortened.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(t.data)) {
		line = strings.TrimSpace(line)
		if t.short != nil {
			line = t.short(line)
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	text := strings.Join(lines, "; ")
	if t.cut {
		text = "… " + text
	}
	return text
}
