// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"container/heap"
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	topBatch  = 2048
	deepBatch = 256
	readBatch = 1024
)

// batchSize is how many names of a directory are held at once. A walk holds one
// batch a level, so deep ones are small.
func batchSize(level int) int {
	if level == 1 {
		return topBatch
	}
	return deepBatch
}

// smallest returns up to limit names of the directory fd that come after the
// given one, sorted. A directory of any size takes the memory of limit names; it
// is read anew for each batch.
func smallest(fd int, after string, limit int) ([]string, error) {
	// A descriptor of its own starts at the first entry.
	again, err := open(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(again), ".")
	defer dir.Close()
	var names largestFirst
	for {
		chunk, err := dir.Readdirnames(readBatch)
		for _, name := range chunk {
			switch {
			case name <= after:
			case len(names) < limit:
				heap.Push(&names, name)
			case name < names[0]:
				names[0] = name
				heap.Fix(&names, 0)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return names, nil
}

// largestFirst is a heap of names.
type largestFirst []string

func (h largestFirst) Len() int           { return len(h) }
func (h largestFirst) Less(i, j int) bool { return h[i] > h[j] }
func (h largestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *largestFirst) Push(x any) { *h = append(*h, x.(string)) }

// Pop implements heap.Interface. It is never called: names are replaced.
func (h *largestFirst) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
