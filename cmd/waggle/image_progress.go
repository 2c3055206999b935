// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"

	"github.com/stacklok/waggle/host/image"
)

// pullSteps tells say of a pull. Blobs come side by side, so it adds them up; a
// line is said for each tenth, so that a log stays short.
func pullSteps(say func(string)) func(image.Progress) {
	blobs := map[digest.Digest]image.Progress{}
	last := ""
	return func(p image.Progress) {
		text := ""
		switch p.Phase {
		case image.PhaseWait:
			text = "waiting for another pull of the image"
		case image.PhaseResolve:
			text = "looking for the image"
		case image.PhaseRetry:
			text = p.Why
		case image.PhasePull:
			blobs[p.Blob] = p
			text = pulled(blobs)
		}
		if text != last {
			last = text
			say(text)
		}
	}
}

// pulled sums up. Of a blob whose size the source does not tell, what has come
// counts as all of it.
func pulled(blobs map[digest.Digest]image.Progress) string {
	var done, total int64
	for _, p := range blobs {
		done += p.Done
		total += max(p.Total, p.Done)
	}
	if total == 0 {
		return "pulling"
	}
	return fmt.Sprintf("pulling %d blobs: %d %% of %s", len(blobs), done*10/total*10, humanize.IBytes(uint64(total)))
}
