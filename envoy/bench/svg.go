package main

import (
	"fmt"
	"html"
	"strings"
)

// A chart is bars that lie, in groups. It is written by hand: a plotting library brings
// fonts, canvases and a tree of modules for what are rectangles and text.
type chart struct {
	title  string
	unit   string
	parts  []string // what the segments of a bar are
	groups []group
}

type group struct {
	label string
	bars  []bar
}

type bar struct {
	label    string
	segments []float64
	note     string // after the value
}

// The geometry, in pixels.
const (
	chartWidth, labelWidth, noteWidth = 860, 230, 150
	barHeight, groupGap, chartTop     = 22, 34, 62
)

var segmentColours = []string{"#2f6f9f", "#d08a2e", "#8a8f98"}

// svg draws the chart. Both light and dark pages can show it: it has a ground of its own.
func (c chart) svg() string {
	var b strings.Builder
	height := chartTop + 12
	for _, g := range c.groups {
		height += groupGap + barHeight*len(g.bars)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13" role="img" aria-label="%s">`+"\n",
		chartWidth, height, html.EscapeString(c.title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	text(&b, 12, 24, "#1a1a1a", `font-size="16"`, c.title)
	c.legend(&b)
	y := chartTop
	for _, g := range c.groups {
		y += groupGap
		text(&b, 12, y-8, "#1a1a1a", `font-weight="bold"`, g.label)
		longest := g.longest()
		for _, bar := range g.bars {
			c.draw(&b, bar, y, longest)
			y += barHeight
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (c chart) legend(b *strings.Builder) {
	x := 12
	for i, part := range c.parts {
		fmt.Fprintf(b, `<rect x="%d" y="38" width="12" height="12" fill="%s"/>`+"\n", x, segmentColours[i])
		text(b, x+18, 49, "#444444", "", part)
		x += 40 + 8*len(part)
	}
}

func (c chart) draw(b *strings.Builder, bar bar, y int, longest float64) {
	text(b, labelWidth-8, y+15, "#1a1a1a", `text-anchor="end"`, bar.label)
	x, sum := float64(labelWidth), 0.0
	for i, value := range bar.segments {
		width := value / longest * (chartWidth - labelWidth - noteWidth)
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x, y+3, width, barHeight-6, segmentColours[i])
		x, sum = x+width, sum+value
	}
	text(b, int(x)+6, y+15, "#444444", "", strings.TrimSpace(fmt.Sprintf("%.0f %s %s", sum, c.unit, bar.note)))
}

// longest is the sum of the longest bar, and never 0.
func (g group) longest() float64 {
	longest := 1.0
	for _, bar := range g.bars {
		sum := 0.0
		for _, value := range bar.segments {
			sum += value
		}
		longest = max(longest, sum)
	}
	return longest
}

func text(b *strings.Builder, x, y int, colour, attributes, content string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" fill="%s" %s>%s</text>`+"\n", x, y, colour, attributes, html.EscapeString(content))
}
