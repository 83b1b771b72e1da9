/* The engine's C interface: a merged network applied to pictures, whole or row by row.

   Every function that can fail returns 0 (or a null pointer) and writes one line into `message`. No function
   throws, prints, or keeps a pointer argument after it returns, except a stream its network. `cancellation`,
   which may be null, is called a few times a second on the calling thread; a result other than 0 cancels the
   call. Several threads may use one network at the same time; a stream must be used by one thread at a time.
 */

#ifndef ONEBRANCH_ENGINE_H
#define ONEBRANCH_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define OB_API __declspec(dllexport)
#else
#define OB_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Incremented with every change below; Python refuses a library of another version. */
#define OB_VERSION 2

typedef struct ob_network ob_network;
typedef struct ob_stream ob_stream;
typedef int32_t (*ob_cancellation)(void);

enum ob_type { OB_UINT8 = 0, OB_UINT16 = 1, OB_FLOAT32 = 2 };

/* The conversion between the picture's samples and the network's channels. */
enum ob_colour {
    OB_OWN = 0,        /* none: the picture has the network's channels */
    OB_Y_OF_RGB = 1,   /* a luma network on an RGB picture: chroma is interpolated */
    OB_Y_OF_GREY = 2,  /* a luma network on a grey picture */
    OB_RGB_OF_GREY = 3 /* an RGB network on a grey picture */
};

/* Size, sample types and memory layout of a picture. Integer samples stand for [0, 1]; outputs of an integer
   type are clipped and rounded half up, float outputs are not. planar: channel after channel, not pixel after
   pixel. */
typedef struct ob_format {
    int64_t height, width;
    int32_t source, target; /* enum ob_type of the input and of the output */
    int32_t colour;         /* enum ob_colour */
    int32_t planar;
} ob_format;

OB_API int32_t ob_version(void);

/* Names of the instruction sets that this processor supports, fastest first, separated by spaces. */
OB_API const char *ob_instruction_sets(void);

/* A network from its description (see description.cpp). instructions: one of those names; null: the fastest.
 */
OB_API ob_network *ob_open(const uint8_t *description, size_t size, const char *instructions, char *message,
                           size_t message_size);
OB_API void ob_close(ob_network *network);

/* Rows and columns of the output for a picture of the format's size. */
OB_API int64_t ob_output_height(const ob_network *network, int64_t height);
OB_API int64_t ob_output_width(const ob_network *network, int64_t width);

/* Processes a whole picture on `threads` threads, including the calling one. strip, band: the largest number
   of columns and rows of a piece, for tests; 0: the engine chooses. */
OB_API int32_t ob_run(const ob_network *network, const ob_format *format, const void *input, void *output,
                      int32_t threads, int64_t strip, int64_t band, ob_cancellation cancellation,
                      char *message, size_t message_size);

/* Begins a picture that is passed row by row from the top; its memory does not grow with the height. */
OB_API ob_stream *ob_stream_open(const ob_network *network, const ob_format *format, int32_t threads,
                                 char *message, size_t message_size);
/* How many rows of the result are ready once `rows` rows of the picture have been passed. */
OB_API int64_t ob_stream_ready(const ob_stream *stream, int64_t rows);
/* Passes `count` more rows and writes the rows of the result that become ready, from the first of them on, to
   `output`. Planes of a planar picture lie input_plane and output_plane rows apart. */
OB_API int32_t ob_stream_push(ob_stream *stream, const void *input, int64_t count, int64_t input_plane,
                              void *output, int64_t output_plane, ob_cancellation cancellation, char *message,
                              size_t message_size);
OB_API void ob_stream_close(ob_stream *stream);

/* Measured multiply-accumulates per second of one thread in the innermost loop, on data in the first-level
   cache. precision: 0 float32, 1 bfloat16, 2 int8. */
OB_API double ob_peak(const ob_network *network, int32_t precision, double seconds);

#ifdef __cplusplus
}
#endif
#endif
