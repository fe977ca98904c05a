package main

import "strings"

// browser is a browser's request. COOKIE becomes the session cookie.
const browser = "GET /api/items?page=2 HTTP/1.1\r\nHost: shop.example\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36\r\n" +
	"Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Referer: https://shop.example/items\r\nOrigin: https://shop.example\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n" +
	"Sec-Ch-Ua: \"Google Chrome\";v=\"129\", \"Not=A?Brand\";v=\"8\"\r\nSec-Ch-Ua-Mobile: ?0\r\nSec-Ch-Ua-Platform: \"Linux\"\r\nDnt: 1\r\n" +
	"Cookie: _ga=GA1.1.1234567890.1234567890; theme=dark; COOKIE\r\n\r\n"

// largeCookie is browser with 8 KB of other cookies.
var largeCookie = strings.Replace(browser, "Cookie: ", "Cookie: filler="+strings.Repeat("x", 8000)+"; ", 1)
