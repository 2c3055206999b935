// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import "time"

// Keep changes KeepAge, KeepCount and SpoolBytes; zero leaves one as it is. What
// is beyond the new limits goes with the next exec.
func (s *Service) Keep(age time.Duration, count int, bytes int64) {
	s.mu.Lock()
	if age > 0 {
		s.cfg.KeepAge = age
	}
	if count > 0 {
		s.cfg.KeepCount = count
	}
	s.mu.Unlock()
	if bytes > 0 {
		s.pool.SetMax(bytes)
	}
}
