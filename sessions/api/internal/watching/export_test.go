package watching

// Tracked reports whether changes are told.
func (h *Hub) Tracked() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tracked
}

// Held is what a hub has: streams, names, and sessions.
func (h *Hub) Held() (streams, names, kept int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams) + len(h.owners), h.names, len(h.sessions) + len(h.timers) + h.queue.length + h.later.length
}
