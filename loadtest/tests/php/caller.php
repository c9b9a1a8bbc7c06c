<?php
// A caller of the API in PHP, with nothing but what PHP comes with.
//
//     caller.php COORDINATOR SECRET APP_SECRET FILE_ID     prints a URL a line: signed GET, signed POST, app key with a JWT

declare(strict_types=1);

const CANONICAL = JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_LINE_TERMINATORS;

function signature_headers(string $secret, string $method, string $path, array $parameters, ?array $body): array
{
    $headers = [
        'Auth-Access-Key' => 'php',
        'Auth-Nonce' => bin2hex(random_bytes(16)),
        'Auth-Timestamp' => (string) time(),
    ];
    $contentMd5 = '';
    if ($body !== null) {
        ksort($body);
        $contentMd5 = base64_encode(md5(json_encode($body, CANONICAL), true));
    }
    $lines = [];
    foreach ($headers as $name => $value) {
        $lines[] = "$name: $value";
    }
    if ($parameters) {
        ksort($parameters);
        $path .= '?' . http_build_query($parameters);
    }
    $text = implode("\n", [$method, $contentMd5, implode("\n", $lines), $path]);
    $headers['Auth-Signature'] = base64_encode(hash_hmac('sha256', $text, $secret, true));
    return $headers;
}

function jwt(string $secret, array $claims): string
{
    $part = fn (string $data): string => rtrim(strtr(base64_encode($data), '+/', '-_'), '=');
    $signed = $part(json_encode(['typ' => 'JWT', 'alg' => 'HS256'])) . '.' . $part(json_encode($claims));
    // The bytes of the MAC.
    return $signed . '.' . $part(hash_hmac('sha256', $signed, $secret, true));
}

function call(string $method, string $url, array $headers, ?array $body = null): array
{
    $lines = [];
    foreach ($headers as $name => $value) {
        $lines[] = "$name: $value";
    }
    $http = ['method' => $method, 'timeout' => 30, 'ignore_errors' => true];
    if ($body !== null) {
        $lines[] = 'Content-Type: application/json';
        // Spaces and escaped slashes: not the form that was signed.
        $http['content'] = json_encode($body, JSON_PRETTY_PRINT);
    }
    $http['header'] = $lines;
    $answer = file_get_contents($url, false, stream_context_create(['http' => $http]));
    $value = json_decode($answer, true);
    if (!isset($value['download_url']) && !isset($value['link'])) {
        fwrite(STDERR, "$answer\n");
        exit(1);
    }
    return $value;
}

[, $coordinator, $secret, $appSecret, $fileId] = $argv;
$path = '/api/request-download';
$parameters = ['user_id' => 'jürgen müller', 'file_id' => $fileId];
$url = $coordinator . $path . '?' . http_build_query($parameters);

echo call('GET', $url, signature_headers($secret, 'GET', $path, $parameters, null))['download_url'], "\n";

$body = ['user_id' => 'jürgen müller', 'file_id' => $fileId, 'ttl' => 600, 'filename' => '年度 報告.bin'];
$headers = signature_headers($secret, 'POST', '/api/links', [], $body);
echo call('POST', "$coordinator/api/links", $headers, $body)['link'], "\n";

$token = jwt($appSecret, ['iat' => time(), 'exp' => 3600]);
echo call('GET', $url, ['AppKey' => 'php-app', 'Authorization' => $token])['download_url'], "\n";
